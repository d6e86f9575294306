"""Workers: processes that write token stores together, one store each at a time."""

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Sequence
from typing import Any, Protocol

from t5tune import errors
from t5tune.data import definitions, index, pipelines, store_names
from t5tune.data.pipelines import Job

_REPORTED = 64  # examples that a worker reports together


class Progress(Protocol):
  """Shows how far the writing is."""

  def begin(self, job: Job) -> None:
    """Tells that a store is being written."""

  def advance(self, job: Job, examples: int) -> None:
    """Tells that this many more of its examples are written."""


def write(
  jobs: Sequence[Job], request: index.Request, progress: Progress, count: int
) -> None:
  """Writes stores in several processes; stops all of them at the first error.

  Args:
    jobs: the stores.
    request: the data asked for.
    progress: shows how far the writing is.
    count: how many processes.

  Raises:
    UserError: as `pipelines.write`; or a process was killed.
  """
  context = multiprocessing.get_context("spawn")  # tensorflow does not survive a fork
  reports, stop = context.SimpleQueue(), context.Event()
  numbered = dict(enumerate(jobs))

  def show() -> None:
    while not reports.empty():
      number, examples = reports.get()
      if examples:
        progress.advance(numbered[number], examples)
      else:
        progress.begin(numbered[number])

  with concurrent.futures.ProcessPoolExecutor(
    count, context, _begin_worker, (request, reports, stop)
  ) as pool:
    pending = {pool.submit(_write_one, n, job) for n, job in numbered.items()}
    try:
      while pending:
        done, pending = concurrent.futures.wait(pending, 0.1)
        show()
        for future in done:
          future.result()
    except concurrent.futures.process.BrokenProcessPool as e:
      raise errors.UserError(
        "a process that writes token stores was killed, perhaps for want of memory."
        " Complete stores are kept: start again, with fewer --workers."
      ) from e
    finally:
      stop.set()
      pool.shutdown(cancel_futures=True)


_worker: dict[str, Any] = {}


def _begin_worker(request: index.Request, reports: Any, stop: Any) -> None:
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # `stop` says it, between examples
  parent = multiprocessing.parent_process()

  def follow() -> None:  # a killed parent would leave this process waiting for ever
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)

  threading.Thread(target=follow, daemon=True).start()
  tasks = {task.name: task for task, _ in definitions.load(request)}
  for task in tasks.values():
    store_names.code_fingerprint(task)
  _worker.update(request=request, reports=reports, stop=stop, tasks=tasks)


def _write_one(number: int, job: Job) -> None:
  reports, stop = _worker["reports"], _worker["stop"]
  written = 0

  def advance() -> None:
    nonlocal written
    written += 1
    if written % _REPORTED == 0:
      reports.put((number, _REPORTED))
      if stop.is_set():
        raise errors.UserError("stopped")

  reports.put((number, 0))
  pipelines.write(_worker["tasks"][job.task], job, _worker["request"], advance)
  if written % _REPORTED:
    reports.put((number, written % _REPORTED))

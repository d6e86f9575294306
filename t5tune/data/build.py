"""A process of its own that builds stores: `python -m t5tune.data.build`.

The trainer starts it when stores are missing, so that reading data brings no
tensorflow into the training process, and tensorflow sees no accelerator.
"""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

from t5tune import errors
from t5tune.data import index, token_store


def ensure(
  request: index.Request, store_dir: pathlib.Path, workers: int | None = None
) -> index.PreparedMixture:
  """Returns the prepared mixture of a request, building what is missing.

  Args:
    request: the data a run asks for.
    store_dir: folder of all stores.
    workers: most processes that write stores; None for one a core.

  Raises:
    SystemExit: the building process failed, after printing why.
    UserError: it was killed, or what it read was changed while it did.
  """
  file = index.path(store_dir, request)
  prepared = index.load(file)
  if prepared is None:
    flags = [json.dumps(request.to_json()), str(store_dir)]
    flags += [str(workers)] if workers else []
    # Accelerators stay with the trainer.
    environment = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
      [sys.executable, "-m", "t5tune.data.build", *flags],
      env={**os.environ, **environment},
      check=False,
    )
    prepared = index.load(file)
    if done.returncode < 0:
      raise errors.UserError(
        f"the process that builds token stores was killed by signal {-done.returncode}"
        " (9: perhaps for want of memory). Complete stores are kept: start again."
      )
    if done.returncode:
      raise SystemExit(done.returncode)
    if prepared is None:
      raise errors.UserError(
        f"{file} is out of date as soon as it was written: data or code changed"
        " meanwhile. Start again."
      )
  return prepared


def remove_damaged(mixture: index.PreparedMixture) -> list[str]:
  """Reads all stores of a mixture and removes those whose checksums do not hold.

  Args:
    mixture: the prepared mixture.

  Returns:
    What was wrong with the stores removed; `ensure` builds them anew.
  """
  found = []
  for store in {s for task in mixture.tasks for s in task.stores}:
    if problems := token_store.problems(store):
      found += problems
      shutil.rmtree(store, ignore_errors=True)
  return found


class _Lines:
  """Progress as one line a store, where the output is no terminal."""

  def begin(self, job) -> None:
    print(f"preparing {job.label}: {job.rows or '?'} rows", flush=True)

  def advance(self, job, examples: int) -> None:
    pass


class _Bars:
  """Progress as one bar for each store that is being written."""

  def __init__(self, bars):
    self._bars, self._numbers = bars, {}

  def begin(self, job) -> None:
    self._numbers[job] = self._bars.add_task(job.label, total=job.rows)

  def advance(self, job, examples: int) -> None:
    number = self._numbers[job]
    self._bars.advance(number, examples)
    if self._bars.tasks[number].finished:
      self._bars.update(number, visible=False)


@contextlib.contextmanager
def _progress() -> Iterator[_Lines | _Bars]:
  from rich import progress

  if not sys.stdout.isatty():
    yield _Lines()
    return
  columns = (
    progress.TextColumn("preparing {task.description}"),
    progress.BarColumn(bar_width=24),
    progress.MofNCompleteColumn(),
    progress.TimeRemainingColumn(),
  )
  with progress.Progress(*columns) as bars:
    yield _Bars(bars)


def main(arguments: list[str]) -> int:
  """Builds the stores of a request; returns the exit status.

  Args:
    arguments: the request as JSON, the folder of all stores, and, unless it is one a
      core, how many processes may write them.
  """
  try:
    from t5tune.data import preparation

    request = index.Request.from_json(json.loads(arguments[0]))
    workers = int(arguments[2]) if len(arguments) > 2 else None
    with _progress() as progress:
      folder = pathlib.Path(arguments[1])
      preparation.prepare(request, folder, progress, workers)
  except errors.UserError as e:
    print(f"error: {e}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    return 130
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))

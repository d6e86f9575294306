"""Commands of the tiny project run by two processes, with four virtual devices each."""

import dataclasses
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile

import tiny_project

# Sends its own process a signal when it lays out batch number `at`, from 1.
_SIGNALLED = """
import os, signal, sys
from t5tune import command_line, partitioning, train
put_batch, calls = partitioning.put_batch, []
def signalled(*given):
  calls.append(1)
  if len(calls) == {at}:
    os.kill(os.getpid(), {number})
  return put_batch(*given)
partitioning.put_batch = signalled
command_line.main(train.main)
"""


@dataclasses.dataclass(frozen=True)
class Ended:
  """What a process left.

  Attributes:
    status: its exit status.
    out: what it printed.
    err: what it said of errors.
  """

  status: int
  out: str
  err: str


def run(
  workdir: pathlib.Path,
  signals: dict[int, tuple[signal.Signals, int]] | None = None,
  own: dict[int, list[str]] | None = None,
  module: str = "train",
  **bindings,
) -> list[Ended]:
  """Runs a command in two processes to its end.

  Args:
    workdir: the work directory.
    signals: index of a process -> the signal that it gets, and at which batch.
    own: index of a process -> flags that it alone gets.
    module: the command.
    **bindings: gin bindings.
  """
  with socket.create_server(("127.0.0.1", 0)) as server:
    port = server.getsockname()[1]
  environment = dict(os.environ)
  environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
  started, folder = [], pathlib.Path(tempfile.mkdtemp(dir=workdir.parent))
  for index in range(2):
    command = ["-m", f"t5tune.{module}"]
    if index in (signals or {}):
      number, at = signals[index]
      command = ["-c", _SIGNALLED.format(number=int(number), at=at)]
    given = [
      *(sys.executable, *command, *tiny_project.flags(workdir, **bindings)),
      *(f"--coordinator_address=localhost:{port}", "--num_processes=2"),
      *(f"--process_id={index}", *(own or {}).get(index, [])),
    ]
    with (folder / f"out{index}").open("w") as out:
      with (folder / f"err{index}").open("w") as err:
        started.append(subprocess.Popen(given, stdout=out, stderr=err, env=environment))
  try:
    for index in signals or {}:
      started[index].wait(280)
    for process in started:
      process.wait(60 if signals else 280)  # what one does, all do within a minute
  finally:
    for process in started:
      process.kill()
      process.wait()
  return [
    Ended(
      process.returncode,
      (folder / f"out{index}").read_text(),
      (folder / f"err{index}").read_text(),
    )
    for index, process in enumerate(started)
  ]

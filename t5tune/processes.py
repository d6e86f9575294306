"""Processes: how a training on several hosts comes together, keeps in step and ends.

Stands before the whole direction of data. All processes run the same program on parts
of the same arrays; only the first, the primary, writes files and speaks.
"""

import hashlib
import importlib.metadata
import os
import pathlib
import secrets
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from t5tune import command_line, errors, process_links, process_places

_Result = TypeVar("_Result")


class _Alone:
  """A run of one process."""

  place = process_places.Place("", 1, 0)
  hosts = ("",)

  def gather(self, name: str, value: Any = None) -> list[Any]:
    return [value]


_links: Any = _Alone()


def together(flags: Any, command: Callable[[], int]) -> int:
  """Runs a command in step with the other processes of the run, if there are any.

  They are found by flags, SLURM or a TPU slice's metadata. Where one of them fails, is
  interrupted or dies, all the others end within a minute, with a line that says which
  one and with its exit status; `command_line.SAVED_NOT_FINISHED` where it died.

  Args:
    flags: the command line: `coordinator_address`, `num_processes`, `process_id`.
    command: the command; returns the exit status.

  Returns:
    The exit status.

  Raises:
    UserError: the processes do not find each other.
  """
  global _links
  place = process_places.find(flags)
  if place is None:
    return command()
  _links = _join(place)
  try:
    status = command()
    _links.part(status)
  except errors.UserError as e:
    _fail(command_line.USER_ERROR, f"error: {e}", str(e))
  except KeyboardInterrupt:
    _fail(command_line.ABORTED, "interrupted", "it was interrupted")
  except SystemExit as e:  # of another process that has said why
    code = e.code if isinstance(e.code, int) else int(bool(e.code))
    _links.end(code, f"it left with status {code}; see what it says")
  except Exception as e:
    # The death of another process shows as an error of an exchange with it, too.
    _links.settle()
    _fail(1, traceback.format_exc(), f"{type(e).__name__}: {e}".splitlines()[0])
  import jax

  jax.distributed.shutdown()
  _links = _Alone()
  return status


def _join(place: process_places.Place) -> process_links.Links:
  """Meets the other processes and starts jax's own exchange with them."""
  brought = {
    "host": process_places.host_name(),
    "gpus": process_places.visible_gpus(),
    "versions": {n: importlib.metadata.version(n) for n in ("t5tune", "jax", "jaxlib")},
  }
  links, everyone, port = process_links.meet(place, brought)
  here = [i for i, one in enumerate(everyone) if one["host"] == brought["host"]]
  gpus = [everyone[i]["gpus"] for i in here]
  import jax

  # Its handler of SIGTERM would take the place of ours.
  jax.config.update("jax_enable_preemption_service", False)
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  if place.index:
    port = process_links.shield(place.host, port)
  jax.distributed.initialize(
    f"127.0.0.1:{port}",
    place.count,
    place.index,
    process_places.share_of_gpus(gpus, here.index(place.index)),
    cluster_detection_method="deactivate",
    shutdown_timeout_seconds=60,
  )
  return links


def _fail(status: int, shown: str, told: str) -> None:
  print(shown, file=sys.stderr, flush=True)
  _links.end(status, told)


def is_primary() -> bool:
  """Returns whether this process is the one that writes files and speaks."""
  return _links.place.index == 0


def wait_for_all(name: str) -> None:
  """Waits until all processes have come here.

  Args:
    name: of the place in the program.
  """
  _links.gather(name)


def from_primary(name: str, make: Callable[[], Any]) -> Any:
  """Returns what the primary makes, in every process; the others wait for it.

  Args:
    name: of the place in the program.
    make: called in the primary alone; returns JSON values.
  """
  return _links.gather(name, make() if is_primary() else None)[0]


def in_turns(name: str, action: Callable[[], _Result]) -> _Result:
  """Runs an action in the primary, then once on every host, then in the rest.

  So what it leaves on disk is there for all others that see the same disk.

  Args:
    name: of the place in the program.
    action: what to do; its result is not shared.
  """
  index, hosts = _links.place.index, _links.hosts
  turn = 0 if index == 0 else 1 if hosts.index(hosts[index]) == index else 2
  result = None
  for now in range(3):
    if now == turn:
      result = action()
    wait_for_all(f"{name} {now}")
  return result


def check_same(name: str, text: str) -> None:
  """Checks that a text is the same in all processes, which must do the same.

  Args:
    name: what it is, for the message.
    text: the text.

  Raises:
    UserError: it is not.
  """
  digests = _links.gather(name, hashlib.sha256(text.encode()).hexdigest())
  others = [i for i, digest in enumerate(digests) if digest != digests[0]]
  if others:
    raise errors.UserError(
      f"process {others[0]} has another {name} than process 0: start all of them with"
      " the same command, files and data."
    )


def check_shared(directory: pathlib.Path) -> None:
  """Checks that all processes see a directory that the primary has made.

  Raises:
    UserError: one of them does not.
  """
  if _links.place.count == 1:
    return
  name = f".seen-{secrets.token_hex(4)}" if is_primary() else ""
  if is_primary():
    (directory / name).touch()
  name = from_primary("shared directory", lambda: name)
  seen = _appears(directory / name)
  all_see = _links.gather("shared directory seen", seen)
  if is_primary():
    (directory / name).unlink(missing_ok=True)
  blind = [i for i, sees in enumerate(all_see) if not sees]
  if blind:
    raise errors.UserError(
      f"--workdir={directory} on {_links.hosts[blind[0]]} (process {blind[0]}) is not"
      " the directory that process 0 sees. All processes write their parts of a"
      " checkpoint to it: name one on a file system that all hosts share."
    )


def _appears(path: pathlib.Path) -> bool:
  """Returns whether a file is there, or comes to be: network disks take a moment."""
  for _ in range(20):
    if path.parent.is_dir() and path.name in os.listdir(path.parent):
      return True
    time.sleep(0.5)
  return False


class Agreement:
  """Whether any process wants to stop, told to all of them at the same moment.

  One process alone may get a signal, yet all must leave after the same step. In a run
  of one process this asks nobody. Else every call begins an exchange on the devices and
  returns the result of the call before, which has come meanwhile: nobody waits.
  """

  def __init__(self, wanted: Callable[[], bool]):
    """Begins with nobody wanting to stop.

    Args:
      wanted: whether this process does.
    """
    self._wanted, self._pending = wanted, None
    if _links.place.count > 1:
      self._prepare()

  def _prepare(self) -> None:
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(np.asarray(jax.devices()), ("all",))
    self._every_device = NamedSharding(mesh, PartitionSpec("all"))
    self._any = jax.jit(
      jax.numpy.max, out_shardings=NamedSharding(mesh, PartitionSpec())
    )

  def reached(self) -> bool:
    """Returns whether to stop now; all processes must ask at the same places."""
    if _links.place.count == 1:
      return self._wanted()
    import jax
    import numpy as np

    own = np.full(jax.local_device_count(), self._wanted(), np.int32)
    flags = jax.make_array_from_process_local_data(self._every_device, own)
    before, self._pending = self._pending, self._any(flags)
    return before is not None and bool(before)

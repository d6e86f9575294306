"""Where a process stands among those of a run: flags, SLURM or TPU metadata tell.

Stands before the whole direction of data; beside `processes.py`.
"""

import argparse
import dataclasses
import glob
import importlib.util
import os
import shutil
import socket
import subprocess
from typing import Any

from t5tune import errors

# Flag -> environment variable that stands in for it. jax itself reads the first.
FLAGS = {
  "coordinator_address": "JAX_COORDINATOR_ADDRESS",
  "num_processes": "JAX_NUM_PROCESSES",
  "process_id": "JAX_PROCESS_ID",
}
_PATIENCE = 600  # seconds for a first host that is still being started


@dataclasses.dataclass(frozen=True)
class Place:
  """A process among those that train together.

  Attributes:
    address: host:port at which the first process meets the others.
    count: how many there are.
    index: which one this is; 0 is the first.
  """

  address: str
  count: int
  index: int

  @property
  def host(self) -> str:
    return self.address.rpartition(":")[0].strip("[]")

  @property
  def port(self) -> int:
    return int(self.address.rpartition(":")[2])


def find(flags: Any) -> Place | None:
  """Returns the place of this process, or None where it trains alone.

  Args:
    flags: the command line: `coordinator_address`, `num_processes`, `process_id`.

  Raises:
    UserError: the flags are incomplete or do not make sense.
  """
  given = {name: _given(flags, name) for name in FLAGS}
  if any(value is not None for value in given.values()):
    return _by_flags(**given)
  if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:  # a step of srun, no shell
    return _detected("slurm", int(os.environ["SLURM_STEP_NUM_TASKS"]))
  if _is_tpu_host():
    on_gke = {"TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES"} & os.environ.keys()
    return _detected("gketpu" if on_gke else "gcetpu")
  return None


def check_alone(command: str) -> None:
  """Checks that this process is not one of several, for a command that is made for one.

  Args:
    command: its name, for the message.

  Raises:
    UserError: it is.
  """
  place = find(argparse.Namespace(**dict.fromkeys(FLAGS)))
  if place is not None and place.count > 1:
    raise errors.UserError(
      f"{command} runs in one process, and this is one of {place.count}. Start it on one"
      " host alone, outside of srun."
    )


def _given(flags: Any, name: str) -> Any:
  value = getattr(flags, name)
  return os.environ.get(FLAGS[name]) or None if value is None else value


def _by_flags(coordinator_address, num_processes, process_id) -> Place | None:
  given = (coordinator_address, num_processes, process_id)
  missing = [
    f"--{name} (or {variable})"
    for (name, variable), value in zip(FLAGS.items(), given, strict=True)
    if value is None
  ]
  if missing:
    raise errors.UserError(
      "several processes need --coordinator_address, --num_processes and --process_id"
      f" together; missing: {', '.join(missing)}. To train in one process, give none."
    )
  count = _number("num_processes", num_processes, 1, None)
  index = _number("process_id", process_id, 0, count - 1)
  host, colon, port = coordinator_address.rpartition(":")
  if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 2**16:
    raise errors.UserError(
      f"--coordinator_address={coordinator_address}: give host:port of the first"
      " process (--process_id=0), with a free port there, such as host0:8476."
    )
  return Place(coordinator_address, count, index) if count > 1 else None


def _number(name: str, text: str | int, least: int, most: int | None) -> int:
  """Returns a number that a flag or its environment variable holds."""
  value = int(text) if str(text).isascii() and str(text).isdigit() else -1
  if value < least or (most is not None and value > most):
    wanted = f"from {least} to {most}" if most is not None else f"{least} or more"
    raise errors.UserError(
      f"--{name}={text}: it must be a number {wanted}. (Where no such flag is given,"
      f" {FLAGS[name]} in the environment counts.)"
    )
  return value


def _is_tpu_host() -> bool:
  chips = glob.glob("/dev/accel[0-9]*") + glob.glob("/dev/vfio/[0-9]*")
  wanted = "tpu" in (os.environ.get("JAX_PLATFORMS") or "tpu")
  # jax sets the latter where such devices are no TPU's; a user, where there is no
  # metadata to be asked.
  wanted = wanted and "TPU_SKIP_MDS_QUERY" not in os.environ
  return bool(chips) and wanted and importlib.util.find_spec("libtpu") is not None


def _detected(method: str, count: int | None = None) -> Place | None:
  """Returns the place that jax finds in a cluster's environment or metadata."""
  # jax.distributed.initialize does the same, but tells nobody what it found.
  from jax._src import clusters

  detect = clusters.ClusterEnv.auto_detect_unset_distributed_params
  try:
    address, count, index, _ = detect(None, count, None, [0], method, _PATIENCE)
  except Exception as e:  # metadata servers and malformed variables fail in many kinds
    raise errors.UserError(
      f"this seems to be one of several hosts ({method}), but which one cannot be told:"
      f" {type(e).__name__}: {e}. Give --coordinator_address, --num_processes and"
      " --process_id; or, to train on this host alone, --num_processes=1"
      " --process_id=0 --coordinator_address=localhost:8476."
    ) from e
  return Place(address, count, index) if count > 1 else None


def host_name() -> str:
  """Returns what names this machine (or container) among those of a run."""
  return socket.gethostname()


def visible_gpus() -> list[str]:
  """Returns the NVIDIA GPUs that this process may use, by UUID where they are told."""
  told = os.environ.get("CUDA_VISIBLE_DEVICES")
  if shutil.which("nvidia-smi") is None:
    return []
  command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
  try:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
  except (OSError, subprocess.TimeoutExpired):
    return []
  found = done.stdout.split() if done.returncode == 0 else []
  if told is None:
    return found
  chosen = [name.strip() for name in told.split(",") if name.strip()]
  by_number = lambda name: int(name) if name.isdigit() else len(found)  # noqa: E731
  return [found[i] if (i := by_number(name)) < len(found) else name for name in chosen]


def share_of_gpus(gpus: list[list[str]], position: int) -> list[int] | None:
  """Returns which of a machine's GPUs one of its processes uses.

  Args:
    gpus: what each process on this machine sees, in the order of their indices.
    position: which of them this is.

  Returns:
    Positions among the GPUs it sees; None for all of them: it is alone, or a
    scheduler has given every process its own.

  Raises:
    UserError: they cannot be shared evenly.
  """
  own, processes = gpus[position], len(gpus)
  if not own or any(set(own) != set(other) for other in gpus) or processes == 1:
    return None
  if len(own) % processes:
    raise errors.UserError(
      f"{processes} processes on {host_name()} share {len(own)} GPU(s), which does not"
      " divide. Start as many processes as GPUs, or one for all of them."
    )
  each = len(own) // processes
  return list(range(position * each, (position + 1) * each))

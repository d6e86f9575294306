"""Devices that a program can be compiled for although they are not there."""

import importlib.util
import os
from collections.abc import Sequence

import jax

from t5tune import errors
from t5tune.planning import chips

# libtpu looks for the TPU it runs on, and lets a single process have it; told that there
# is none, it compiles at once, and beside a training on a TPU.
_NO_TPU_HERE = {
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_ACCELERATOR_TYPE": "v5litepod-8",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_WORKER_ID": "0",
  "TPU_STDERR_LOG_LEVEL": "3",
  "TPU_MIN_LOG_LEVEL": "3",
}


def has_libtpu() -> bool:
  """Returns whether TPU programs can be compiled here."""
  return importlib.util.find_spec("libtpu") is not None


def of(topology: chips.Topology) -> tuple[Sequence, bool]:
  """Returns a machine's devices, and whether they are the real compiler's.

  A TPU's come from libtpu, which needs no TPU. All others are virtual CPU devices, and
  what is compiled for them is an estimate. This process's accelerators stay untouched.

  Args:
    topology: the machine.

  Raises:
    UserError: libtpu knows no such slice.
  """
  jax.config.update("jax_platforms", "cpu")
  if topology.chip.kind == "tpu" and has_libtpu():
    return _tpu_devices(topology), True
  try:
    jax.config.update("jax_num_cpu_devices", topology.count)
  except RuntimeError:  # they exist already: enough of them, or jax says so below
    pass
  devices = jax.devices("cpu")
  if len(devices) < topology.count:
    raise RuntimeError(f"jax started with {len(devices)} CPU devices.")
  return devices[: topology.count], topology.chip.kind == "cpu"


def _tpu_devices(topology: chips.Topology) -> Sequence:
  from jax.experimental import topologies

  for name, value in _NO_TPU_HERE.items():
    os.environ.setdefault(name, value)
  options = {"chips_per_host_bounds": (1, 1, 1)} if topology.count == 1 else {}
  try:
    found = topologies.get_topology_desc(topology.layout, "tpu", **options)
  except Exception as e:  # jax raises RuntimeError's subclasses of several names
    raise errors.UserError(
      f"--topology={topology.name}: libtpu has no slice {topology.layout}:"
      f" {str(e).splitlines()[0]}"
    ) from e
  return found.devices

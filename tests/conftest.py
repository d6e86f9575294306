"""Test environment: eight virtual CPU devices, set before jax is imported."""

import os
import signal
from signal import SIGINT, SIGTERM

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()
# Set, though to nothing: commands that are called in this process leave it alone.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", "")
os.environ.setdefault("MALLOC_PERTURB_", "0")  # likewise, of how memory is allocated
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tiny_project import finished, project, workplace  # noqa: F401


@pytest.fixture(autouse=True)
def signals():
  """A command that ended in this process has left signals ignored; children inherit."""
  handlers = {number: signal.getsignal(number) for number in (SIGINT, SIGTERM)}
  yield
  for number, handler in handlers.items():
    signal.signal(number, handler)

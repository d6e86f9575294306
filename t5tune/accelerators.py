"""What accelerators are told before jax starts, in one place.

Stands before the whole direction of data. Whatever the environment already sets is
left alone; so these are defaults, and each can be set back.
"""

import glob
import os

# Most of a GPU's memory at once: no fragments, and tensorflow, which never sees the
# GPU, needs none. The rest is for cuDNN, cuBLAS and NCCL. (jax's own default: 0.75.)
_GPU_ENVIRONMENT = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9"}
# Gathers of sharded parameters run while layers compute.
_GPU_FLAGS = {"--xla_gpu_enable_latency_hiding_scheduler": "true"}


def set_defaults() -> None:
  """Sets what suits training, in this process's environment, where nothing is set.

  Must be called before jax first looks for devices. Without an NVIDIA GPU, or where
  JAX_PLATFORMS rules it out, nothing is changed.
  """
  if not _has_gpu():
    return
  allocation = ("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION")
  allocation += ("XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_ALLOCATOR")
  if not any(name in os.environ for name in allocation):
    os.environ.update(_GPU_ENVIRONMENT)
  given = os.environ.get("XLA_FLAGS", "").split()
  names = {flag.partition("=")[0] for flag in given}
  more = [f"{name}={value}" for name, value in _GPU_FLAGS.items() if name not in names]
  os.environ["XLA_FLAGS"] = " ".join([*given, *more])


def _has_gpu() -> bool:
  platforms = os.environ.get("JAX_PLATFORMS", "").split(",")
  allowed = not platforms[0] or {"cuda", "gpu"} & set(platforms)
  return bool(allowed) and bool(glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/dxg"))

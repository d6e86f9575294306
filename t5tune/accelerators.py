"""What jax and accelerators are told before jax starts, in one place.

Stands before the whole direction of data. Whatever the environment already sets is
left alone; so these are defaults, and each can be set back.
"""

import glob
import os
import pathlib

from t5tune import host_memory, native

# Most of a GPU's memory at once: no fragments, and tensorflow, which never sees the
# GPU, needs none. The rest is for cuDNN, cuBLAS and NCCL. (jax's own default: 0.75.)
_GPU_ENVIRONMENT = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9"}
# Gathers of sharded parameters run while layers compute.
_GPU_FLAGS = {"--xla_gpu_enable_latency_hiding_scheduler": "true"}


# Bytes of compiled programs that are kept; those not used for longest go first.
_KEPT_BYTES = 2 * 2**30


def set_defaults(store_dir: pathlib.Path) -> None:
  """Sets what suits training, in this process's environment, where nothing is set.

  Compiled programs are kept, so that the next start finds them. An NVIDIA GPU gets its
  memory and its flags, unless JAX_PLATFORMS rules it out; a CPU keeps what it frees. Must
  be called before jax is imported.

  Args:
    store_dir: the folder for what is kept between runs.
  """
  _keep_compiled(native.folder(store_dir))
  if not _has_gpu():
    if not _has_tpu():
      host_memory.keep_freed()
    return
  allocation = ("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION")
  allocation += ("XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_ALLOCATOR")
  if not any(name in os.environ for name in allocation):
    os.environ.update(_GPU_ENVIRONMENT)
  given = os.environ.get("XLA_FLAGS", "").split()
  names = {flag.partition("=")[0] for flag in given}
  more = [f"{name}={value}" for name, value in _GPU_FLAGS.items() if name not in names]
  os.environ["XLA_FLAGS"] = " ".join([*given, *more])


def _keep_compiled(folder: pathlib.Path) -> None:
  """Has jax keep compiled programs in a folder, if it can be written."""
  if "JAX_COMPILATION_CACHE_DIR" in os.environ:
    return
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError:
    return
  if os.access(folder, os.W_OK):
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder.absolute())
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(_KEPT_BYTES))


def _has_gpu() -> bool:
  platforms = os.environ.get("JAX_PLATFORMS", "").split(",")
  allowed = not platforms[0] or {"cuda", "gpu"} & set(platforms)
  return bool(allowed) and bool(glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/dxg"))


def _has_tpu() -> bool:
  if os.environ.get("JAX_PLATFORMS") == "cpu":
    return False
  return bool(glob.glob("/dev/accel*") + glob.glob("/dev/vfio/[0-9]*"))

"""C++ that is compiled on the machine that it runs on, for what XLA is slow at on CPUs.

Stands beside the direction of data: whoever calls it must do without, too, for there may
be no compiler. A library is kept, and made once for a machine; `CXX` names the compiler,
as for other software.
"""

import ctypes
import functools
import hashlib
import logging
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence

from t5tune import command_line

_COMPILERS = ("c++", "g++", "clang++")
_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-w")


def machine() -> str:
  """Returns a name of this kind of machine.

  What is compiled for one CPU may hold instructions that another does not have, and
  several may share a home directory.
  """
  told = platform.processor()
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:  # no Linux
    pass
  else:
    names = ("model name", "flags", "Features")
    told = str(sorted({line for line in lines if line.startswith(names)}))
  return f"{platform.machine()}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def folder(store_dir: pathlib.Path | None = None) -> pathlib.Path:
  """Returns where what is compiled for this machine is kept.

  Args:
    store_dir: the folder for what is kept between runs; by default the user's.
  """
  return (store_dir or command_line.default_store_dir()) / "compiled" / machine()


@functools.cache
def register(source: pathlib.Path, handlers: Sequence[str]) -> bool:
  """Compiles a C++ file, and registers its handlers as XLA FFI targets of the CPU.

  Args:
    source: the file; it may include headers of its folder.
    handlers: symbols that it defines by XLA_FFI_DEFINE_HANDLER_SYMBOL; the targets are
      called `t5tune_` and the symbol.

  Returns:
    Whether the targets are there. Why not is one line in the log.
  """
  import jax  # late: the base must not start it

  try:
    library = ctypes.CDLL(str(_compiled(source, jax.ffi.include_dir())))
    for name in handlers:
      capsule = jax.ffi.pycapsule(getattr(library, name))
      jax.ffi.register_ffi_target(f"t5tune_{name}", capsule, platform="cpu")
  except (OSError, subprocess.SubprocessError) as e:
    said = getattr(e, "stderr", None) or str(e) or repr(e)
    logging.getLogger(__name__).warning(
      "%s was not compiled, so this CPU takes longer: %s",
      source.name,
      said.strip().splitlines()[0],
    )
    return False
  return True


def _compiled(source: pathlib.Path, headers: str) -> pathlib.Path:
  """Returns the library of a C++ file, compiled now unless it was before.

  Raises:
    OSError: there is no compiler, or the folder cannot be written.
    subprocess.SubprocessError: it does not compile.
  """
  import jaxlib

  tune = "-march" if platform.machine().lower() in ("x86_64", "amd64") else "-mcpu"
  command = [*_compiler(), *_FLAGS, f"{tune}=native", f"-I{headers}", str(source)]
  files = [source, *sorted(source.parent.glob("*.h"))]  # it may include any of them
  told = [*(file.read_bytes() for file in files), " ".join(command).encode()]
  told.append(jaxlib.__version__.encode())
  key = hashlib.sha256(b"\0".join(told)).hexdigest()[:16]
  library = folder() / f"{source.stem}-{key}.so"
  if not library.exists():
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
      made = pathlib.Path(scratch) / library.name
      subprocess.run(
        [*command, "-o", str(made)], check=True, capture_output=True, text=True
      )
      os.replace(made, library)  # whole, whoever else makes it
  return library


def _compiler() -> list[str]:
  if os.environ.get("CXX"):
    return shlex.split(os.environ["CXX"])
  for name in _COMPILERS:
    if shutil.which(name):
      return [name]
  raise FileNotFoundError(f"there is no C++ compiler ({', '.join(_COMPILERS)})")

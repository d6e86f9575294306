"""Has the memory that a process on the CPU frees be there for its next step.

glibc gives large blocks back to the system as they are freed, and gets them anew, page
by page, each of which the system clears: a training step on the CPU frees and gets a
gigabyte. Keeping it took a fifth off a step of FLAN-T5 small's shape; docs/benchmarks.md.
"""

import ctypes
import mmap
import os
import pathlib

# glibc's malloc.h; the manual page is mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_NEVER = -1
_RESERVED_SHARE = 0.75  # of the machine's memory, as addresses
_OVERCOMMIT = pathlib.Path("/proc/sys/vm/overcommit_memory")
_STRICT = "2"  # addresses count as memory


def keep_freed() -> None:
  """Keeps what this process frees, and asks for large pages.

  Does nothing where the C library is not glibc, or where the environment sets how it
  allocates (MALLOC_..., GLIBC_TUNABLES). Must be called before threads are started:
  each would have memory of its own.
  """
  if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
    return
  libc = ctypes.CDLL(None)
  if not hasattr(libc, "mallopt"):
    return
  libc.mallopt(_ARENA_MAX, 1)
  libc.mallopt(_MMAP_MAX, 0)
  libc.mallopt(_TRIM_THRESHOLD, _NEVER)
  _ask_for_large_pages(libc)


def _ask_for_large_pages(libc: ctypes.CDLL) -> None:
  """Has the system use large pages for all that will be allocated.

  The addresses are reserved first, all at once: what is not written to takes no memory.
  """
  if not hasattr(mmap, "MADV_HUGEPAGE") or not _OVERCOMMIT.exists():
    return
  if _OVERCOMMIT.read_text().strip() == _STRICT:
    return
  libc.malloc.restype = ctypes.c_void_p
  libc.malloc.argtypes = [ctypes.c_size_t]
  libc.free.argtypes = [ctypes.c_void_p]
  libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
  page = os.sysconf("SC_PAGE_SIZE")
  size = int(os.sysconf("SC_PHYS_PAGES") * page * _RESERVED_SHARE)
  block = libc.malloc(size)
  if block:  # the system may refuse so much
    begin = -(-block // page) * page
    libc.madvise(begin, (block + size - begin) // page * page, mmap.MADV_HUGEPAGE)
    libc.free(block)

"""What a process frees is there for its next allocation."""

import os
import subprocess
import sys

import pytest

MIB = 2**20
# A thread's memory, too: it is threads of XLA's that allocate.
CODE = f"""
import resource, threading
from t5tune import host_memory
host_memory.keep_freed()

def fill():
  b"x" * (256 * {MIB})

def faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  thread = threading.Thread(target=fill)
  thread.start()
  thread.join()
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
second = faults()
# Not `ru_maxrss`, which begins with what the process that started this one had.
lines = open("/proc/self/status").read().splitlines()
peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
print(first, second, peak // 1024)
"""


def run(**given: str) -> tuple[int, int, int]:
  """Returns the page faults of two fillings, and the MiB at the peak."""
  kept = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
  done = subprocess.run(
    [sys.executable, "-c", CODE], capture_output=True, text=True, env=kept | given
  )
  assert done.returncode == 0, done.stderr
  first, second, peak = map(int, done.stdout.split())
  return first, second, peak


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc, on Linux")
def test_freed_memory_is_kept_and_what_is_reserved_takes_none():
  _, second, peak = run()
  assert second < 100  # of 65,536 pages
  assert peak < 600  # MiB


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc, on Linux")
def test_what_the_environment_sets_stays():
  _, second, _ = run(MALLOC_PERTURB_="0")
  assert second > 10_000

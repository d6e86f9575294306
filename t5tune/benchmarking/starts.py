"""How long it takes from a command to the end of its first step.

Imports, settings, compilation, parameters and one update; with a mixture also its data,
as far as they are not prepared. Each start is a process of its own.
"""

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Sequence

from t5tune import errors
from t5tune.benchmarking.measures import Cost, Measure


def measures(arguments: Sequence[str], scratch: pathlib.Path) -> list[Measure]:
  """Returns the measures of a first start, and of a second one.

  Args:
    arguments: of `python -m t5tune.bench`, what to run.
    scratch: a folder for what the first start compiles.
  """
  compiled = scratch / "compiled"
  command = [sys.executable, "-m", "t5tune.bench", *arguments, "--first_step"]
  environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(compiled)}

  def start():
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
      told = done.stderr.strip().splitlines()
      raise errors.UserError(f"the first step fails: {told[-1] if told else command}")

  def first():
    shutil.rmtree(compiled, ignore_errors=True)
    start()

  return [
    Measure("start to first step, compiling", "start", Cost(), first),
    Measure("start to first step, compiled before", "start", Cost(), start),
  ]

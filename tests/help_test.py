"""`--help` answers at once: it neither imports jax nor tensorflow."""

import os
import subprocess
import sys

import pytest
from architecture_test import COMMANDS


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_takes_less_than_a_second(command):
  started = subprocess.Popen(
    [sys.executable, "-m", f"t5tune.{command}", "--help"], stdout=subprocess.PIPE
  )
  shown = started.stdout.read().decode()
  _, status, used = os.wait4(started.pid, 0)
  assert status == 0
  assert shown.count(f"python -m t5tune.{command} ") >= 3
  # Of processor time: others may keep the machine busy.
  assert used.ru_utime + used.ru_stime < 1

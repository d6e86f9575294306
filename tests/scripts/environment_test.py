"""Tests of scripts/environment.sh: what it says where Python is missing or old."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(script: str, **environment: str) -> subprocess.CompletedProcess:
  return subprocess.run(
    [ROOT / "scripts" / script, "--version"],
    capture_output=True,
    text=True,
    env={"PATH": os.environ["PATH"], **environment},
  )


@pytest.fixture
def old_python(tmp_path) -> pathlib.Path:
  """An interpreter that calls itself too old."""
  path = tmp_path / "python3"
  path.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'Python 3.9.1'\nexit 1\n")
  path.chmod(0o755)
  return path


@pytest.mark.parametrize("script", ["test", "demo"])
def test_old_python_is_refused_before_anything_is_made(script, old_python, tmp_path):
  venv = tmp_path / "venv"
  done = run(script, T5TUNE_VENV=str(venv), PYTHON=str(old_python))
  assert done.returncode == 2
  assert f"PYTHON={old_python} is not Python 3.11 or newer" in done.stderr
  assert not venv.exists()


def test_absent_python_is_said_with_the_fix(old_python, tmp_path):
  # Only the tools of the script itself are on the path, and an old python3.
  tools = old_python.parent
  for name in ("dirname", "cksum", "cat"):
    found = next(
      path
      for folder in os.environ["PATH"].split(os.pathsep)
      if (path := pathlib.Path(folder) / name).exists()
    )
    (tools / name).symlink_to(found)
  done = run("test", T5TUNE_VENV=str(tmp_path / "venv"), PATH=str(tools))
  assert done.returncode == 2
  assert "no Python 3.11 or newer was found (Python 3.9.1)" in done.stderr
  assert "PYTHON=/path/to/python3.11" in done.stderr


def test_environment_that_is_up_to_date_is_used_as_it_is(tmp_path):
  # A stand-in with the stamp of this checkout: nothing may be installed into it.
  venv = tmp_path / "venv"
  (venv / "bin").mkdir(parents=True)
  (venv / "bin" / "python").symlink_to(sys.executable)
  stamp = subprocess.run(
    ["cksum"], stdin=(ROOT / "setup.py").open(), capture_output=True, text=True
  ).stdout
  (venv / "t5tune-stamp").write_text(f"{ROOT} {stamp}")
  before = sorted(venv.rglob("*"))
  done = run("test", T5TUNE_VENV=str(venv))
  assert "Installing" not in done.stderr
  assert sorted(venv.rglob("*")) == before

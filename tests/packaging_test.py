"""A wheel holds all that a checkout has, and works away from it."""

import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


def pip(*args: str) -> None:
  done = subprocess.run(
    [sys.executable, "-m", "pip", "--disable-pip-version-check", *args],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
  # Built from a copy: setuptools would leave a build folder in the checkout, and
  # take files from one that an earlier build left.
  copy = tmp_path_factory.mktemp("copy")
  for name in ("t5tune", "tasks", "gin"):
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / name, copy / name, ignore=ignored)
  for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
    shutil.copy(ROOT / name, copy)
  folder = tmp_path_factory.mktemp("wheel")
  pip("wheel", str(copy), "--no-deps", "--wheel-dir", str(folder), "--quiet")
  (path,) = folder.glob("*.whl")
  return path


def test_wheel_holds_every_file(wheel):
  inside = set(zipfile.ZipFile(wheel).namelist())
  wanted = set()
  for folder in ("t5tune", "gin", "tasks"):
    paths = [p for p in (ROOT / folder).rglob("*") if p.is_file()]
    assert paths
    names = {p.relative_to(ROOT).as_posix() for p in paths if p.suffix != ".pyc"}
    wanted |= names if folder == "t5tune" else {f"t5tune/{name}" for name in names}
  assert wanted - inside == set()
  assert not [name for name in inside if name.startswith(("tests/", "gin/", "tasks/"))]


def test_wheel_works_away_from_the_checkout(wheel, tmp_path):
  site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
  elsewhere.mkdir()
  pip("install", str(wheel), "--no-deps", "--target", str(site), "--quiet")
  code = (
    "import t5tune.tasks\n"
    "from t5tune import config\n"
    "print(t5tune.__file__)\n"
    "print(t5tune.tasks.__file__)\n"
    "print(config.find_gin_file('demo.gin'))\n"
    "print(config.load(['demo.gin']).overrides is not None)\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    text=True,
    cwd=elsewhere,
    env={"PYTHONPATH": str(site), "JAX_PLATFORMS": "cpu", "PATH": ""},
  )
  assert done.returncode == 0, done.stderr[-2000:]
  *places, loads = done.stdout.split()
  assert all(pathlib.Path(place).is_relative_to(site) for place in places)
  assert len(places) == 3
  assert loads == "True"

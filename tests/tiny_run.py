"""A project as a user has it: task module, recipe, rows and vocabulary, all tiny.

`project` is made once; a test asks for `workplace` to stand in its folder and run the
commands there. Stores are shared by the session, so most runs find their tokens.
"""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import tiny_data

TESTDATA = pathlib.Path(__file__).parent / "testdata" / "project"
_NOUNS = ("lamp", "boat", "kettle", "ladder", "garden", "window", "violin", "engine")
_WORDS = ("broke", "is new", "was sold", "needs paint")


def note_rows(count: int, shift: int = 0) -> list[dict]:
  """Returns invented notes, each with a title that its words give away."""
  pairs = [(n, w) for w in _WORDS for n in _NOUNS]
  chosen = [pairs[(i + shift) % len(pairs)] for i in range(count)]
  return [
    {"note": f"Our {noun} {word}, day {i}.", "title": f"The {noun} {word}"}
    for i, (noun, word) in enumerate(chosen)
  ]


def sum_rows(count: int) -> list[dict]:
  """Returns sums."""
  pairs = [(i % 7, i // 7 + 1) for i in range(count)]
  return [{"a": a, "b": b, "total": a + b} for a, b in pairs]


def write_data(folder: pathlib.Path) -> pathlib.Path:
  """Writes the rows: `sums` has no test split, so `validation` stands in for it."""
  for name, rows in {
    "notes/train": note_rows(30),
    "notes/validation": note_rows(6, shift=5),
    "notes/test": note_rows(5, shift=11),
    "sums/train": sum_rows(20),
    "sums/validation": sum_rows(7),
  }.items():
    tiny_data.write_rows(folder / f"{name}.jsonl", rows)
  return folder


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> pathlib.Path:
  """A folder with `tiny_tasks.py`, `tiny.gin`, `tiny.model`, `data` and `stores`."""
  folder = tmp_path_factory.mktemp("project")
  shutil.copytree(TESTDATA, folder, dirs_exist_ok=True)
  tiny_data.train_vocabulary(folder / "tiny.model")
  write_data(folder / "data")
  return folder


@pytest.fixture
def workplace(project, monkeypatch):
  """Stands in the project's folder; what the commands leave behind is undone."""
  monkeypatch.chdir(project)
  monkeypatch.setattr(sys, "path", [str(project), *sys.path])
  monkeypatch.setattr(sys, "argv", ["train"])
  monkeypatch.delenv("T5TUNE_DATA_DIR", raising=False)
  monkeypatch.setenv("TFDS_DATA_DIR", str(project / "tfds"))
  monkeypatch.setenv("XDG_CACHE_HOME", str(project / "cache"))
  yield project
  if "t5tune.data.sources" in sys.modules:
    sys.modules["t5tune.data.sources"].set_data_dir(None)


def flags(workdir: os.PathLike | None = None, **bindings) -> list[str]:
  """Returns the command line of a run of the project, with gin bindings."""
  given = [] if workdir is None else [f"--workdir={workdir}"]
  given += [f"--gin.{name.replace('__', '.')}={v!r}" for name, v in bindings.items()]
  return ["--gin_file=tiny.gin", "--data_dir=data", "--store_dir=stores", *given]

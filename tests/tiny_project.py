"""A project as a user has it: task module, recipe, rows and vocabulary, all tiny.

The folder is made once in a session; a test asks for `workplace` to stand in it and
run commands there. Token stores and compiled programs are shared by all of them.
"""

import hashlib
import json
import os
import pathlib
import shutil
import sys

import pytest
import tiny_data

TESTDATA = pathlib.Path(__file__).parent / "testdata" / "project"
_NOUNS = ("lamp", "boat", "kettle", "ladder", "garden", "window", "violin", "engine")
_WORDS = ("broke", "is new", "was sold", "needs paint")


def note_rows(count: int, shift: int = 0) -> list[dict]:
  """Returns invented notes, each with a title that its words give away."""
  pairs = [(noun, word) for word in _WORDS for noun in _NOUNS]
  chosen = [pairs[(i + shift) % len(pairs)] for i in range(count)]
  return [
    {"note": f"Our {noun} {word}, day {i}.", "title": f"The {noun} {word}"}
    for i, (noun, word) in enumerate(chosen)
  ]


def sum_rows(count: int) -> list[dict]:
  """Returns sums, all different."""
  pairs = [(i % 19, i // 19 + 1) for i in range(count)]
  return [{"a": a, "b": b, "total": a + b} for a, b in pairs]


def write_data(folder: pathlib.Path) -> pathlib.Path:
  """Writes the rows: `sums` has no test split, so `validation` stands in for it."""
  for name, rows in {
    "notes/train": note_rows(400),
    "notes/validation": note_rows(6, shift=5),
    "notes/test": note_rows(5, shift=11),
    "sums/train": sum_rows(300),
    "sums/validation": sum_rows(9),
  }.items():
    tiny_data.write_rows(folder / f"{name}.jsonl", rows)
  return folder


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> pathlib.Path:
  """A folder with `tiny_tasks.py`, `tiny.gin`, `tiny.model` and `data`."""
  folder = tmp_path_factory.mktemp("project")
  shutil.copytree(TESTDATA, folder, dirs_exist_ok=True)
  tiny_data.train_vocabulary(folder / "tiny.model")
  write_data(folder / "data")
  return folder


def enter(folder: pathlib.Path, monkeypatch) -> None:
  """Stands in a project's folder, where its modules are found."""
  monkeypatch.chdir(folder)
  monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
  monkeypatch.setattr(sys, "argv", ["train"])
  monkeypatch.delenv("T5TUNE_DATA_DIR", raising=False)
  monkeypatch.setenv("TFDS_DATA_DIR", str(folder / "tfds"))
  monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


@pytest.fixture
def workplace(project, monkeypatch):
  """Stands in the project's folder; what the commands leave in the process is undone.

  Compiled programs are kept between runs: compiling takes most of a tiny run's time.
  """
  import jax
  from jax.experimental.compilation_cache import compilation_cache

  kept = {
    "jax_compilation_cache_dir": str(project / "compiled"),
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
    "jax_disable_most_optimizations": True,
  }
  before = {name: jax.config.values[name] for name in kept}
  for name, value in kept.items():
    jax.config.update(name, value)
    monkeypatch.setenv(name.upper(), str(value))  # for other processes
  compilation_cache.reset_cache()
  enter(project, monkeypatch)
  yield project
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()
  forget_data_dir()


def forget_data_dir() -> None:
  """Undoes what loading tasks does to the sources of this process."""
  if "t5tune.data.sources" in sys.modules:
    sys.modules["t5tune.data.sources"].set_data_dir(None)


def flags(workdir: os.PathLike | str | None = None, **bindings) -> list[str]:
  """Returns the command line of a run of the project, with gin bindings."""
  given = [] if workdir is None else [f"--workdir={workdir}"]
  given += [f"--gin.{name}={text}" for name, text in _overrides(bindings)]
  return ["--gin_file=tiny.gin", "--data_dir=data", "--store_dir=stores", *given]


def _overrides(bindings) -> list[tuple[str, str]]:
  """Returns (name, text) of bindings, in whose names `__` stands for a dot."""
  return [(name.replace("__", "."), repr(v)) for name, v in bindings.items()]


def settings(**bindings):
  """Returns the `Run` of the project's recipe with gin bindings."""
  from t5tune import config, run

  return config.load(["tiny.gin"], _overrides(bindings)).build(run.Run)


def request(train: bool = True, **bindings):
  """Returns the data that a run of the project asks for."""
  # Weights that INIT names may not be there yet, or no more.
  made = settings(
    **{**bindings, "VOCABULARY": bindings.get("VOCABULARY") or "tiny.model"}
  )
  return made.request("data", made.vocabulary_path(), train)


def prepare(store_dir: os.PathLike | str = "stores", **bindings):
  """Builds what a run lacks in this process, which spares starting tensorflow anew."""
  from t5tune.data import preparation

  try:
    return preparation.prepare(request(**bindings), pathlib.Path(store_dir), Quiet())
  finally:
    forget_data_dir()


class Quiet:
  """Shows no progress."""

  def begin(self, job) -> None:
    pass

  def advance(self, job, examples) -> None:
    pass


def contents(folder: pathlib.Path) -> dict[str, str]:
  """Returns the hash of every file below a folder, by its path."""
  files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
  return {
    str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
    for p in files
  }


def start(
  workdir: os.PathLike | str, command: str = "train", more=(), **bindings
) -> int:
  """Runs a command of the project in this process; returns its exit status."""
  from t5tune import errors, eval, train
  from t5tune.data import index

  main = {"train": train, "eval": eval}[command].main
  try:
    if index.load(index.path("stores", request(**bindings))) is None:
      prepare(**bindings)
    return main([*flags(workdir, **bindings), *more])
  except errors.UserError as e:  # as `command_line.main` does
    print(f"error: {e}", file=sys.stderr)
    return 2


def records(workdir: pathlib.Path) -> list[dict]:
  """Returns the lines of `metrics.jsonl` without what the clock says."""
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").open()]
  timed = {"target_tokens_per_second", "data_wait_share"}
  return [{k: v for k, v in line.items() if k not in timed} for line in lines]


def checkpoint(workdir: pathlib.Path, step: int) -> dict:
  """Returns a checkpoint's JSON: the feed's state, the best score, all checksums."""
  return json.loads((workdir / "checkpoints" / str(step) / "meta.json").read_text())


@pytest.fixture
def finished(workplace) -> pathlib.Path:
  """The work directory of an uninterrupted run, made once; tests only read it."""
  workdir = workplace / "finished"
  if not workdir.exists():
    assert start(workdir) == 0
  return workdir

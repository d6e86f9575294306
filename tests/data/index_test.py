"""The index: a run starts from it as long as nothing it depends on has changed."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from store_data import mixture
from tiny_data import write_rows

from t5tune.data import fingerprint, index
from t5tune.errors import UserError

ROWS = [{"text": "a"}, {"text": "b"}]


def request(vocabulary: pathlib.Path, **changes) -> index.Request:
  values = {
    "mixture": "m",
    "task_modules": ("user_tasks",),
    "data_dir": "data",
    "vocabulary": str(vocabulary),
    "input_length": 8,
    "target_length": 4,
    "row_lengths": (16, 8),
    "batch_size": 2,
    "pack": True,
    "seed": 0,
    "train_steps": 10,
    "train_epochs": None,
    "max_passes": 4,
    "splits": ("validation", "test"),
    "train": True,
  }
  return index.Request(**{**values, **changes})


@dataclasses.dataclass
class Prepared:
  """A mixture, its index and what that depends on."""

  mixture: index.PreparedMixture
  file: pathlib.Path
  code: pathlib.Path
  data: pathlib.Path


@pytest.fixture
def prepared(tmp_path, monkeypatch) -> Prepared:
  """An index over a module of the user's and two splits of a data set."""
  code = tmp_path / "code" / "user_tasks_of_index_test.py"
  code.parent.mkdir()
  code.write_text("x = 1\n")
  spec = importlib.util.spec_from_file_location(code.stem, code)
  monkeypatch.setitem(sys.modules, code.stem, importlib.util.module_from_spec(spec))
  data = tmp_path / "data" / "texts"
  files = [write_rows(data / f"{s}.jsonl", ROWS) for s in ("train", "validation")]
  made = mixture(tmp_path / "stores", sizes=(3, 4), rates=(1.0, 2.5), passes=2)
  file = tmp_path / "prepared" / "x.json"
  index.save(file, made, index.dependencies(files, {f.parent for f in files}))
  return Prepared(made, file, code, data)


def test_the_same_mixture_comes_back(prepared):
  assert index.load(prepared.file) == prepared.mixture
  # Its time alone is no change of code.
  os.utime(prepared.code)
  assert index.load(prepared.file) == prepared.mixture
  assert os.listdir(prepared.file.parent) == ["x.json"]


def change_code(p: Prepared):
  p.code.write_text("x = 2\n")


def remove_code(p: Prepared):
  p.code.unlink()


def change_data(p: Prepared):
  write_rows(p.data / "train.jsonl", [*ROWS, {"text": "c"}])


def change_data_of_one_size(p: Prepared):
  write_rows(p.data / "validation.jsonl", list(reversed(ROWS)))


def remove_data(p: Prepared):
  (p.data / "train.jsonl").unlink()


def add_split(p: Prepared):
  write_rows(p.data / "test.jsonl", ROWS)


def remove_store(p: Prepared):
  shutil.rmtree(p.mixture.tasks[1].passes[1])


def cut_index(p: Prepared):
  p.file.write_text(p.file.read_text()[:-50])


def remove_index(p: Prepared):
  p.file.unlink()


@pytest.mark.parametrize(
  "change",
  [
    *(change_code, remove_code, change_data, change_data_of_one_size, remove_data),
    *(add_split, remove_store, cut_index, remove_index),
  ],
)
def test_any_change_asks_for_a_new_one(prepared, change):
  change(prepared)
  assert index.load(prepared.file) is None


def test_another_version_of_a_package_asks_for_a_new_one(prepared, monkeypatch):
  newer = {**fingerprint.versions(), "seqio": "99"}
  monkeypatch.setattr(fingerprint, "versions", lambda: newer)
  assert index.load(prepared.file) is None


def test_files_that_tensorflow_writes_for_itself_do_not_count(
  prepared, tmp_path, monkeypatch
):
  # They are gone when the process that builds stores ends.
  generated = tmp_path / "__autograph_generated_file1.py"
  generated.write_text("")
  module = type(sys)(generated.stem)
  module.__file__ = str(generated)
  monkeypatch.setitem(sys.modules, generated.stem, module)
  index.save(prepared.file, prepared.mixture, index.dependencies([], []))
  generated.unlink()
  assert index.load(prepared.file) == prepared.mixture


def test_each_request_has_its_own_index(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  vocabularies = [tmp_path / name for name in ("a.model", "b.model", "copy.model")]
  for file, content in zip(vocabularies, "aba", strict=True):
    file.write_text(content)
  first = request(vocabularies[0])
  changed = [
    {"mixture": "n"},
    {"task_modules": ("user_tasks", "more")},
    {"data_dir": None},
    {"vocabulary": str(vocabularies[1])},
    {"input_length": 9},
    {"target_length": 5},
    {"row_lengths": (16, 9)},
    {"batch_size": 3},
    {"pack": False},
    {"seed": 1},
    {"train_steps": 11},
    {"train_steps": None, "train_epochs": 10.0},
    {"max_passes": 3},
    {"splits": ("validation",)},
    {"train": False},
    {"row_tokens": 99},
    {"held_out_templates": ("inverted",)},
    {"eval_template": "all"},
    {"files": {"train_file": "x.jsonl"}},
    {"data_cap": 5},
    {"cache_dirs": ("caches",)},
    {"named_by": "EVAL_MIXTURE"},
  ]
  assert {k for c in changed for k in c} == {f.name for f in dataclasses.fields(first)}
  paths = [index.path("stores", first)]
  paths += [index.path("stores", dataclasses.replace(first, **c)) for c in changed]
  (tmp_path / "elsewhere").mkdir()
  with monkeypatch.context() as elsewhere:
    elsewhere.chdir(tmp_path / "elsewhere")
    paths.append(index.path("stores", first))
  with monkeypatch.context() as elsewhere:
    elsewhere.setenv("PYTHONPATH", "other_checkout")
    paths.append(index.path("stores", first))
  assert len(set(paths)) == len(paths)
  # The same file under another name is the same vocabulary.
  copy = dataclasses.replace(first, vocabulary=str(vocabularies[2]))
  assert index.path("stores", copy) == paths[0]


@pytest.mark.parametrize("change", ["{}", "null", "[]", '{"index": {}}', None])
def test_a_damaged_index_is_made_anew(prepared, change):
  text = prepared.file.read_text()
  prepared.file.write_text(
    text.replace('"rate": 1', '"rate": 7') if change is None else change
  )
  assert prepared.file.read_text() != text
  assert index.load(prepared.file) is None


def test_a_request_survives_json(tmp_path):
  first = request(tmp_path)
  assert index.Request.from_json(json.loads(json.dumps(first.to_json()))) == first


def test_a_place_that_cannot_be_written_is_named(prepared, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="--store_dir"):
    index.save(tmp_path / "file" / "x.json", prepared.mixture, {})


def test_loading_needs_no_tensorflow(prepared):
  code = (
    "import pathlib, sys\n"
    "from t5tune.data import index\n"
    "assert index.load(pathlib.Path(sys.argv[1])).name == 'made_up'\n"
    "assert not {'tensorflow', 'seqio', 'jax', 'grain'} & set(sys.modules)\n"
  )
  flags = [sys.executable, "-c", code, str(prepared.file)]
  done = subprocess.run(flags, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr

"""The building process: what it makes, and what it says of a user's mistakes."""

import json
import subprocess
import sys

import pytest
from tiny_data import ROWS, write_rows
from tiny_project import enter, request

from t5tune.data import build, index


@pytest.fixture
def own_place(workplace, tmp_path, monkeypatch):
  """A project of this test alone; returns a function that builds in this process."""
  for name in ("tiny.gin", "tiny.model"):
    (tmp_path / name).write_bytes((workplace / name).read_bytes())
  enter(tmp_path, monkeypatch)
  write_rows(tmp_path / "data" / "samsum" / "train.jsonl", ROWS["samsum"])
  write_rows(tmp_path / "data" / "samsum" / "validation.jsonl", ROWS["samsum"])
  before = set(sys.modules)

  def run(**bindings) -> int:
    defaults = {"MIXTURE": "samsum", "TASK_MODULES": ["t5tune.tasks.dialogue"]}
    asked = request(**{**defaults, **bindings})
    return build.main([json.dumps(asked.to_json()), "stores"])

  run.folder = tmp_path
  yield run
  for name in set(sys.modules) - before:
    if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
      del sys.modules[name]


def test_stores_are_built_away_from_the_trainer(workplace, tmp_path):
  # It has no tensorflow then, and the builder sees no accelerator.
  (workplace / "hidden_tasks.py").write_text(
    "import os\n"
    "from tiny_tasks import *\n"
    "assert os.environ['CUDA_VISIBLE_DEVICES'] == '-1'\n"
    "assert os.environ['JAX_PLATFORMS'] == 'cpu'\n"
  )
  asked = request(TASK_MODULES=["hidden_tasks"])
  code = (
    "import json, pathlib, sys\n"
    "from t5tune.data import build, index\n"
    "asked = index.Request.from_json(json.loads(sys.argv[1]))\n"
    "for _ in range(2):\n"  # the second needs no process
    "  made = build.ensure(asked, pathlib.Path(sys.argv[2]))\n"
    "assert not {'tensorflow', 'seqio'} & set(sys.modules)\n"
    "print(json.dumps(made.to_json()))\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", code, json.dumps(asked.to_json()), str(tmp_path)],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  told = [line for line in lines if line.startswith("preparing")]
  assert "preparing tiny_titles, pass 0 (train): 400 rows" in told
  assert len(told) == len(set(told)) == 5
  made = index.PreparedMixture.from_json(json.loads(lines[-1]))
  assert index.load(index.path(tmp_path, asked)) == made


def test_a_bad_row_stops_the_trainer_with_its_place(own_place, capfd):
  line = own_place.folder / "data" / "samsum" / "train.jsonl"
  line.write_text(line.read_text() + '{"id": "9", "dialogue": "A: Hi."}\n')
  asked = request(MIXTURE="samsum", TASK_MODULES=["t5tune.tasks.dialogue"])
  with pytest.raises(SystemExit) as caught:
    build.ensure(asked, own_place.folder / "stores")
  assert caught.value.code == 2
  said = capfd.readouterr().err
  assert said.startswith(f"error: {line}:{len(ROWS['samsum']) + 1}: field 'summary'")
  assert "Traceback" not in said
  assert not list((own_place.folder / "stores").rglob("*.json"))


BAD_LINES = {
  "cut short": ('{"dialogue": "A: Hi.", "summary": ', "not JSON"),
  "misspelt field": ('{"dialog": "A: Hi.", "summary": "S"}', "Did you mean 'dialog'"),
  "empty dialogue": ('{"dialogue": " ", "summary": "S"}', "'dialogue' is empty"),
  "number for text": ('{"dialogue": 5, "summary": "S"}', "'dialogue' is 5"),
  "list": ("[1]", "instead of an object"),
}


@pytest.mark.parametrize("line, words", BAD_LINES.values(), ids=BAD_LINES)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_bad_lines(own_place, capsys, split, line, words):
  file = own_place.folder / "data" / "samsum" / f"{split}.jsonl"
  file.write_text(f"{file.read_text()}\n{line}\n")
  assert own_place() == 2
  said = capsys.readouterr().err
  assert said.startswith(f"error: {file}:{len(ROWS['samsum']) + 2}: ")
  assert words in said


@pytest.mark.parametrize(
  "bindings, words",
  [
    ({"MIXTURE": "samsun"}, ["MIXTURE = 'samsun'", "Did you mean 'samsum'"]),
    (
      {"TASK_MODULES": ["t5tune.tasks.mixture"]},
      ["TASK_MODULES names 't5tune.tasks.mixture'", "'t5tune.tasks.mixtures'"],
    ),
    (
      {"TASK_MODULES": ["my_taks"]},
      ["TASK_MODULES names 'my_taks'", "Did you mean 'my_tasks'", "my_taks.py"],
    ),
    ({"MIXTURE": "dialogsum"}, ["Dataset 'dialogsum' not found", "--data_dir"]),
    (
      {"EVAL_SPLIT": "validaton", "TEST_SPLIT": "tset"},
      ["'validaton'", "EVAL_SPLIT", "validation"],
    ),
  ],
)
def test_names_that_are_not_there(own_place, capsys, bindings, words):
  (own_place.folder / "my_tasks.py").write_text("import seqio\n")
  assert own_place(**bindings) == 2
  said = capsys.readouterr().err
  assert said.startswith("error: ")
  assert all(word in said for word in words), said


BROKEN_MODULES = {
  "syntax": ("x = 1\ny = = 2\n", 2, "SyntaxError: invalid syntax"),
  "name": ("x = 1\n\ny = z\n", 3, "NameError: name 'z' is not defined"),
  "missing module": ("import os\nimport nowhere_to_be_found\n", 2, "nowhere_to_be"),
  "missing name": ("from os import nothing_like_it\n", 1, "nothing_like_it"),
  # Raised inside seqio, by a line of the user's.
  "library": (
    "import seqio\n\nseqio.MixtureRegistry.add('half', ['no_such_task'])\n",
    3,
    "ValueError: need a rate for each task",
  ),
}


@pytest.mark.parametrize(
  "source, line, words", BROKEN_MODULES.values(), ids=BROKEN_MODULES
)
def test_a_broken_module_is_named_with_its_line(own_place, capsys, source, line, words):
  (own_place.folder / "broken_tasks.py").write_text(source)
  assert own_place(TASK_MODULES=["broken_tasks"]) == 2
  said = capsys.readouterr().err
  assert said.startswith("error: TASK_MODULES: importing broken_tasks failed at ")
  assert f"{own_place.folder}/broken_tasks.py:{line}: " in said
  assert words in said


def test_a_missing_folder_is_named(own_place, capsys):
  values = {**request(MIXTURE="samsum").to_json(), "data_dir": "nowhere"}
  assert build.main([json.dumps(values), "stores"]) == 2
  assert capsys.readouterr().err.startswith("error: --data_dir=nowhere is not a")

"""The settings of a user's own files: what they may be and what is said of others."""

import dataclasses
import json
import subprocess
import sys

import pytest

from t5tune import config, run
from t5tune.data import user_files
from t5tune.errors import UserError

GIVEN = {
  "train_file": "chats.jsonl",
  "inputs": "Sum up: {chat}",
  "targets": "{summary}",
}


def task(**changes) -> user_files.FileTask:
  return user_files.FileTask(**GIVEN | changes)


def test_a_copy_made_from_json_is_the_same():
  made = task(
    metrics=("rouge", "bleu"), references=("{other}",), inputs=r"a\\n{chat}\n"
  )
  values = dataclasses.asdict(made)
  assert json.loads(json.dumps(values)) == values
  assert user_files.FileTask.from_json(values) == made


@pytest.mark.parametrize(
  ("written", "meant"),
  [
    (r"Sum up:\n{chat}", "Sum up:\n{chat}"),
    ("Sum up:\n{chat}", "Sum up:\n{chat}"),
    (r"\t\\nabla \d\\", "\t\\nabla \\d\\"),
  ],
)
def test_escapes_are_those_of_a_shell_user(written, meant):
  assert user_files.unescaped(written) == meant


def test_columns_are_those_of_the_placeholders():
  assert user_files.columns("{b} {{c}} {a}", "{b}{d}") == ["b", "a", "d"]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"train_file": "a.json"}, "TRAIN_FILE = 'a.json': its name must .* Rename it"),
    ({"train_file": "a.jsonl.gzip"}, "TRAIN_FILE = 'a.jsonl.gzip': its name must tell"),
    ({"validation_file": "a.cvs"}, "VALIDATION_FILE = .* Did you mean 'csv'"),
    ({"test_file": "a.parquet.gz"}, "TEST_FILE = 'a.parquet.gz': its name must tell"),
    ({"inputs": "Sum up!"}, "INPUTS = 'Sum up!': it names no column"),
    ({"inputs": "{chat"}, "INPUTS = '{chat': expected '}'.* a brace as {{"),
    ({"inputs": "{}"}, "INPUTS = '{}': {} is not a column's plain name"),
    ({"inputs": "{my chat}"}, "INPUTS = .*{my chat} is not a column's plain name"),
    ({"targets": "{chat[0]}"}, "TARGETS = .*is not a column's plain name"),
    ({"targets": "{row_key}"}, "TARGETS = .*'row_key' has a name that t5tune uses"),
    ({"references": ["other"]}, "REFERENCES = 'other': it names no column"),
    ({"validation_share": 1.0}, "VALIDATION_SHARE = 1.0"),
    ({"replay_share": 0}, "REPLAY_SHARE = 0"),
    ({"metrics": []}, "METRICS is empty"),
    ({"name": "my data"}, "TASK_NAME = 'my data'"),
    ({"on_bad_row": "drop"}, "ON_BAD_ROW = 'drop'"),
  ],
)
def test_a_mistake_is_named_by_its_macro(changes, message):
  with pytest.raises(UserError, match=message):
    task(**changes)


def test_a_missing_file_is_answered_with_the_nearest(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "chat.jsonl").touch()
  with pytest.raises(UserError, match="TRAIN_FILE = .* Did you mean 'chat.jsonl'"):
    task().check_files()
  (tmp_path / "chats.jsonl").touch()
  task().check_files()
  (tmp_path / "folder.csv").mkdir()
  with pytest.raises(UserError, match="TEST_FILE = 'folder.csv' is a folder"):
    task(test_file="folder.csv").check_files()


def build(**overrides) -> run.Run:
  flags = {"TRAIN_FILE": "chats.jsonl", "INPUTS": "{chat}", "TARGETS": "{summary}"}
  return config.load(["jsonl.gin"], list((flags | overrides).items())).build(run.Run)


def test_the_command_line_is_read_as_it_is_typed():
  made = build(
    INPUTS=r"Summarize a dialogue:\n{dialogue}",
    TARGETS="{summary}",
    METRICS="bleu",
    REFERENCES="[{summary2},{summary3}]",
    VALIDATION_FILE="more.csv.gz",
    ON_BAD_ROW="skip",
  )
  assert user_files.unescaped(made.files.inputs) == "Summarize a dialogue:\n{dialogue}"
  assert made.files == user_files.FileTask(
    train_file="chats.jsonl",
    inputs=r"Summarize a dialogue:\n{dialogue}",
    targets="{summary}",
    metrics=["bleu"],
    references=["{summary2}", "{summary3}"],
    validation_file="more.csv.gz",
    on_bad_row="skip",
  )
  assert made.mixture == "my_data"


def test_replay_trains_the_mixture():
  assert build(REPLAY="multitask", TASK_NAME="mine").mixture == "mine_replay"


def test_what_must_be_set_is_named():
  with pytest.raises(UserError, match="TRAIN_FILE must be set; .* takes a string"):
    config.load(["jsonl.gin"]).build(run.Run)


def test_settings_need_no_tensorflow():
  code = "import sys; from t5tune.data import user_files; print(sorted(sys.modules))"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert "t5tune.data.file_formats" in done.stdout
  assert not any(name in done.stdout for name in ("'tensorflow'", "'seqio'"))

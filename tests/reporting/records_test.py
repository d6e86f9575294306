"""What runs left behind is read whole, or the file at fault is named."""

import made_runs
import pytest

from t5tune.errors import UserError
from t5tune.reporting import records


def test_a_run_is_read(tmp_path):
  (run,) = records.read([made_runs.multitask(tmp_path / "a" / "run")])
  assert run.name == "run"
  assert [e.step for e in run.evaluations] == [0, 5]
  assert run.evaluations[1].tasks["chat"]["scores"]["rouge1"] == 30.0
  assert run.trained == set(made_runs.TASKS)
  assert [line["step"] for line in run.train] == [1, 2, 3, 4, 5]
  assert [e["loss"] for e in run.validation["code"]] == [2.0, 1.0]
  assert len(run.predictions("chat", 5)) == made_runs.ROWS
  assert run.predictions("chat", 4) == []


def test_runs_of_one_name_are_told_apart(tmp_path):
  paths = [made_runs.multitask(tmp_path / x / "run") for x in ("a", "b")]
  assert [r.name for r in records.read(paths)] == ["a/run", "b/run"]
  with pytest.raises(UserError, match="named twice"):
    records.read([paths[0], paths[0]])


def test_profiles_are_not_mixed(tmp_path):
  run = made_runs.multitask(tmp_path / "run")
  made_runs.rescored(run, 5, rouge="rouge|stem=0|other")
  with pytest.raises(UserError, match="test-5.json.*does not mix|does not mix"):
    records.read([run])


def test_what_is_no_run(tmp_path):
  with pytest.raises(UserError, match="is no work directory"):
    records.read([tmp_path])
  (tmp_path / "run.json").write_text("{}")
  with pytest.raises(UserError, match="has no scores yet.*t5tune.eval"):
    records.read([tmp_path])


@pytest.mark.parametrize(
  ("file", "content", "message"),
  [
    ("scores/test-5.json", "{", "test-5.json is damaged"),
    ("scores/test-5.json", "{}", "test-5.json is damaged: 'tasks' is missing"),
    ("metrics.jsonl", '{"step": 1}\n{"st', "metrics.jsonl, line 2 is damaged"),
  ],
)
def test_damaged_files_are_named(tmp_path, file, content, message):
  run = made_runs.multitask(tmp_path / "run")
  (run / file).write_text(content)
  with pytest.raises(UserError, match=message):
    records.read([run])

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
  with pytest.raises(
    UserError, match="ROUGE profile = .*test-5.json with rouge.*not mix"
  ):
    records.read([run])


def test_what_is_no_run(tmp_path):
  with pytest.raises(UserError, match="is no work directory"):
    records.read([tmp_path])
  (tmp_path / "run.json").write_text("{}")
  with pytest.raises(UserError, match="has no scores yet.*t5tune.eval"):
    records.read([tmp_path])


def test_a_log_that_is_being_written_is_read_as_far_as_it_goes(tmp_path):
  path = made_runs.multitask(tmp_path / "run")
  with (path / "metrics.jsonl").open("a") as log:
    log.write('{"step": 6, "ki')
  (run,) = records.read([path])
  assert len(run.train) == 5


def test_evaluations_that_were_made_otherwise_are_not_mixed(tmp_path):
  run = made_runs.multitask(tmp_path / "run")
  made_runs.rescored(run, 5, settings={"examples": 10})
  with pytest.raises(
    UserError, match="examples = None, .*test-5.json with 10: a report"
  ):
    records.read([run])


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ('{"input": "a", "references": ["b"]}', "line 1 is damaged: no str 'prediction'"),
    ('{"input": "a"', "line 1 is damaged"),
    ("[1]", "line 1 is damaged: not a JSON object"),
  ],
)
def test_damaged_predictions_are_named(tmp_path, line, message):
  path = made_runs.multitask(tmp_path / "run")
  (run,) = records.read([path])
  (path / "predictions/chat-test-5.jsonl").write_text(line + "\n")
  with pytest.raises(UserError, match=f"chat-test-5.jsonl, {message}"):
    run.predictions("chat", 5)


def test_a_score_that_is_no_number_is_named(tmp_path):
  run = made_runs.multitask(tmp_path / "run")
  file = run / "scores/test-5.json"
  file.write_text(file.read_text().replace('"rouge1": 30.0', '"rouge1": NaN', 1))
  with pytest.raises(UserError, match="test-5.json is damaged: chat/rouge1 is nan"):
    records.read([run])


@pytest.mark.parametrize(
  ("file", "content", "message"),
  [
    ("scores/test-5.json", "{", "test-5.json is damaged"),
    ("scores/test-5.json", "{}", "test-5.json is damaged: 'step' is missing"),
    ("metrics.jsonl", '{"step": 1}\n{"st\n', "metrics.jsonl, line 2 is damaged"),
    ("metrics.jsonl", "[1]\n", "metrics.jsonl, line 1 is damaged: not a JSON object"),
    ("mixture.json", "[]", "mixture.json is damaged: not a JSON object"),
    ("mixture.json", '{"tasks": [{"name": "a"}]}', "mixture.json is damaged: 'rows'"),
  ],
)
def test_damaged_files_are_named(tmp_path, file, content, message):
  run = made_runs.multitask(tmp_path / "run")
  (run / file).write_text(content)
  with pytest.raises(UserError, match=message):
    records.read([run])

"""Evaluations on disk come back."""

import dataclasses
import json

import pytest
from some_results import ODD, result

from t5tune.errors import UserError
from t5tune.evaluation import results


def test_scores_come_back(tmp_path):
  made = [result(), result("second", "validation", constant=None, unigram_loss=None)]
  results.save(tmp_path, 6, "test", made, {"examples": 5})
  loaded = results.load_scores(tmp_path, "test", 6)
  assert list(loaded) == ["first", "second"]
  for r in made:
    wanted = {f.name: getattr(r, f.name) for f in dataclasses.fields(r)}
    assert loaded[r.task] == {**wanted, "rows": 5}
  assert results.load_scores(tmp_path, "test", 5) == {}
  assert results.load_scores(tmp_path, "validation", 6) == {}
  saved = json.loads(results.scores_file(tmp_path, "test", 6).read_text())
  assert saved["step"] == 6
  assert saved["rouge"].startswith("rouge|")


def test_baselines_are_kept_where_they_cannot_be_told_anew(tmp_path):
  results.save(tmp_path, 6, "test", [result()], {"examples": 5})
  bare = result(constant=None, constant_answer=None, unigram_loss=None)
  results.save(tmp_path, 6, "test", [bare], {"examples": 5})
  assert results.load_scores(tmp_path, "test", 6)["first"] == result().summary()
  results.save(tmp_path, 6, "test", [bare], {"examples": 4})  # other rows
  assert results.load_scores(tmp_path, "test", 6)["first"] == bare.summary()


def test_predictions_are_one_object_a_line(tmp_path):
  results.save(
    tmp_path, 6, "test", [result(), result("second", "validation")], {"examples": 5}
  )
  assert results.predictions_file(tmp_path, "second", "test", 6).is_file()
  text = results.predictions_file(tmp_path, "first", "test", 6).read_bytes()
  lines = [json.loads(line) for line in text.split(b"\n")[:-1]]
  assert len(lines) == 5
  for i, line in enumerate(lines):
    assert line == {
      "input": f"{ODD} {i}",
      "template": "plain",
      "references": [f"human {i}", "other"],
      "prediction": f"model {i}",
      "scores": {"rougeL": 10.0 * i},
      "targets_pretokenized": f"human {i}",
      "number": i,
    }


def test_a_place_that_cannot_be_written(tmp_path):
  (tmp_path / "predictions").write_text("a file")
  with pytest.raises(UserError, match="--workdir"):
    results.save(tmp_path, 6, "test", [result()], {"examples": 5})
  assert results.load_scores(tmp_path, "test", 6) == {}


def test_scores_of_a_checkpoint_become_those_before_the_next_run(tmp_path):
  made = [result(), result("second")]
  results.save(tmp_path / "one", 6, "test", made, {"examples": 5})
  results.adopt(tmp_path / "one", 6, tmp_path / "next")
  one, taken = tmp_path / "one", tmp_path / "next"
  assert results.load_scores(taken, "test", 0) == results.load_scores(one, "test", 6)
  assert json.loads(results.scores_file(taken, "test", 0).read_text())["step"] == 0
  for task in ("first", "second"):
    rows = results.load_predictions(one, task, "test", 6)
    assert rows and results.load_predictions(taken, task, "test", 0) == rows


def test_scores_of_two_rouge_profiles_never_share_a_table(tmp_path):
  for step in (0, 6):
    results.save(tmp_path, step, "test", [result()], {"examples": 5})
  after, before = results.after_and_before(tmp_path, 6)
  assert after and before == results.load_scores(tmp_path, "test", 0)
  assert results.after_and_before(tmp_path, 0) == (before, {})
  file = results.scores_file(tmp_path, "test", 0)
  file.write_text(json.dumps({**json.loads(file.read_text()), "rouge": "rouge|v0"}))
  assert results.after_and_before(tmp_path, 6) == (after, {})

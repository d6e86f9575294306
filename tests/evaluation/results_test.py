"""Evaluations on disk come back, and the screen shows what they hold."""

import dataclasses
import json

import pytest
from rich.console import Console

from t5tune.errors import UserError
from t5tune.evaluation import evaluator, results

ODD = 'line\u2028end [bold]not markup[/bold]\x85 "quoted" 🙂'


def result(task="first", split="test", **changes) -> evaluator.TaskResult:
  rows = [
    {
      "inputs_pretokenized": f"{ODD} {i}",
      "targets_pretokenized": f"human {i}",
      "template": "plain",
      "number": i,
      "prediction": f"model {i}",
      "references": [f"human {i}", "other"],
      "scores": {"rougeL": 10.0 * i},
    }
    for i in range(5)
  ]
  values = {
    "task": task,
    "split": split,
    "scores": {"rougeL": 41.256, "exact": 3.0},
    "loss": 1.5,
    "shuffled_loss": 2.5,
    "unigram_loss": 6.0,
    "constant": {"rougeL": 12.0, "exact": 0.5},
    "constant_answer": "human",
    "shuffled": {"rougeL": 9.0, "exact": 0.25},
    "mean_length": 7.25,
    "at_cap": 0.0,
    "rows": rows,
  }
  return evaluator.TaskResult(**{**values, **changes})


def shown(function, *args, **kwargs) -> str:
  console = Console(width=200, color_system=None)
  with console.capture() as capture:
    function(console, *args, **kwargs)
  return capture.get()


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


def loaded(*made: evaluator.TaskResult) -> dict:
  return {r.task: r.summary() for r in made}


def test_scores_stand_beside_their_baselines():
  second = result("second", "validation", scores={"exact": 50.0}, constant=None)
  before = loaded(dataclasses.replace(second, scores={"exact": 20.0}))
  text = shown(results.print_scores, "Scores", loaded(result(), second), before)
  lines = [line.replace("│", " ").split() for line in text.splitlines()]
  assert [
    "first",
    "test",
    "rougeL",
    "5",
    "12.00",
    "9.00",
    "–",
    "41.26",
    "7.2",
    "0.0%",
  ] in lines
  assert ["exact", "0.50", "0.25", "–", "3.00"] in lines
  row = ["second", "validation", "exact", "5", "–", "0.25", "20.00", "50.00"]
  assert [*row, "7.2", "0.0%"] in lines
  assert "ROUGE profile: rouge|" in text
  assert "cut at TARGET_LENGTH" not in text


def test_without_scores_before_there_is_no_such_column():
  text = shown(results.print_scores, "Scores", loaded(result()))
  assert "before" not in text
  losses = shown(results.print_losses, loaded(result()))
  assert ["first", "6.00", "–", "1.50", "2.50"] in [
    line.replace("│", " ").split() for line in losses.splitlines()
  ]


def test_outputs_at_the_cap_are_told():
  made = loaded(result(at_cap=0.03), result("second", at_cap=0.02))
  text = shown(results.print_scores, "Scores", made)
  assert "More than 2 % of the outputs were cut at TARGET_LENGTH: first\n" in text


def test_examples_show_human_before_and_after(tmp_path):
  results.save(tmp_path, 6, "test", [result()], {"examples": 5})
  old = result(rows=[{**row, "prediction": "early"} for row in result().rows])
  results.save(tmp_path, 0, "test", [old], {"examples": 5})
  text = shown(results.print_examples, tmp_path, "first", 6)
  assert text.count("  human  human") == 3
  assert text.count(" before  early") == 3
  assert [n for n in range(5) if f"  after  model {n}" in text] == [0, 1, 3]
  assert "[bold]not markup[/bold]" in text
  results.predictions_file(tmp_path, "first", "test", 0).unlink()
  text = shown(results.print_examples, tmp_path, "first", 6, count=9)
  assert "before" not in text
  assert text.count("  human  human") == 5


def test_an_empty_answer_is_told(tmp_path):
  rows = [{**row, "prediction": ""} for row in result().rows]
  results.save(tmp_path, 6, "test", [result(rows=rows)], {"examples": 5})
  text = shown(results.print_examples, tmp_path, "first", 6)
  assert text.count("  after  (empty)") == 3

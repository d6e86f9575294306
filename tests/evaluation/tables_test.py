"""The screen shows what evaluations hold."""

import dataclasses

from rich.console import Console
from some_results import result

from t5tune.evaluation import evaluator, results, tables


def shown(function, *args, **kwargs) -> str:
  console = Console(width=200, color_system=None)
  with console.capture() as capture:
    function(console, *args, **kwargs)
  return capture.get()


def loaded(*made: evaluator.TaskResult) -> dict:
  return {r.task: r.summary() for r in made}


def test_scores_stand_beside_their_baselines():
  second = result("second", "validation", scores={"exact": 50.0}, constant=None)
  before = loaded(dataclasses.replace(second, scores={"exact": 20.0}))
  text = shown(tables.print_scores, "Scores", loaded(result(), second), before)
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
  assert "were cut" not in text


def test_templates_show_mean_worst_and_spread():
  scores = {"a": {"rougeL": 40.0}, "b": {"rougeL": 20.0}, "c": {"rougeL": 30.0}}
  text = shown(tables.print_templates, loaded(result(templates=scores), result("x")))
  lines = [line.replace("│", " ").split() for line in text.splitlines()]
  assert ["first", "rougeL", "3", "30.00", "20.00", "8.16", "b"] in lines
  assert not any(line[:1] == ["x"] for line in lines)
  errors = {"a": {"mean_error": 1.0}, "b": {"mean_error": 3.0}}
  made = result(scores={"mean_error": 1.0}, templates=errors)
  assert "3.00" in shown(tables.print_templates, loaded(made)).split()
  assert shown(tables.print_templates, loaded(result())) == ""


def test_without_scores_before_there_is_no_such_column():
  text = shown(tables.print_scores, "Scores", loaded(result()))
  assert "before" not in text
  losses = shown(tables.print_losses, loaded(result()))
  assert ["first", "6.00", "–", "1.50", "4.48", "2.50"] in [
    line.replace("│", " ").split() for line in losses.splitlines()
  ]


def test_outputs_at_the_cap_are_told():
  made = loaded(result(at_cap=0.03), result("second", at_cap=0.02))
  text = shown(tables.print_scores, "Scores", made)
  told = text[text.index("More than 2 %") :].split()
  assert " ".join(told).endswith("the longest reference: first (32 tokens)")


def test_examples_show_human_before_and_after(tmp_path):
  results.save(tmp_path, 6, "test", [result()], {"examples": 5})
  old = result(rows=[{**row, "prediction": "early"} for row in result().rows])
  results.save(tmp_path, 0, "test", [old], {"examples": 5})
  text = shown(tables.print_examples, tmp_path, "first", 6)
  assert text.count("  human  human") == 3
  assert text.count(" before  early") == 3
  assert [n for n in range(5) if f"  after  model {n}" in text] == [0, 1, 3]
  assert "[bold]not markup[/bold]" in text
  results.predictions_file(tmp_path, "first", "test", 0).unlink()
  text = shown(tables.print_examples, tmp_path, "first", 6, count=9)
  assert "before" not in text
  assert text.count("  human  human") == 5


def test_an_empty_answer_is_told(tmp_path):
  rows = [{**row, "prediction": ""} for row in result().rows]
  results.save(tmp_path, 6, "test", [result(rows=rows)], {"examples": 5})
  text = shown(tables.print_examples, tmp_path, "first", 6)
  assert text.count("  after  (empty)") == 3

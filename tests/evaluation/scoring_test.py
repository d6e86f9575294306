"""Scores by a task's own postprocessor and metrics, and what they may do wrong."""

import subprocess
import sys
import threading

import pytest
import seqio
from tiny_project import request

from t5tune.data import definitions
from t5tune.errors import UserError
from t5tune.evaluation import scoring

ROWS = [{"targets_pretokenized": text} for text in ("Ana rows", "Bo reads")]


def mixed(targets, predictions):
  return {"right": 100.0 * sum(map(str.__eq__, targets, predictions)) / len(targets)}


def failing(targets, predictions):
  raise ValueError("empty prediction")


def wordy(targets, predictions):
  return {"verdict": "good"}


def unknown(references, answers):
  return {"right": 1.0}


def of_scores(targets, scores):
  return {"right": 1.0}


@pytest.fixture
def scorer(workplace):
  """A scorer of `variant_task`, a copy of `tiny_titles` with the changes given."""
  definitions.load_tasks(["tiny_tasks"], "data")
  task = seqio.TaskRegistry.get("tiny_titles")

  def make(**changes):
    seqio.TaskRegistry.add_provider(
      "variant_task", task.replace(name="variant_task", **changes)
    )
    return scoring.Scorer(request(MIXTURE="variant_task"))

  yield make
  seqio.TaskRegistry.remove("variant_task")


def test_scores_are_the_metrics_of_what_the_postprocessor_makes(scorer):
  upper = lambda text, example, is_target: text.upper()  # noqa: E731
  made = scorer(postprocess_fn=upper, metric_fns=[mixed])
  references = made.references("variant_task", ROWS)
  assert references == ["ANA ROWS", "BO READS"]
  found = made.score("variant_task", ROWS, references, ["ana rows", "ana reads"])
  assert found == {"right": 50.0}


@pytest.mark.parametrize(
  "metric, told",
  [
    (failing, r"metric failing failed on 2 .*scoring_test.py:\d+: ValueError: empty"),
    (wordy, "metric wordy failed .* numbers by name"),
    (unknown, r"'predictions'.* Got: \('references', 'answers'\)"),
    (of_scores, r"metric of_scores must take \(targets, predictions\)"),
  ],
)
def test_a_metric_that_fails_is_named_with_its_line(scorer, metric, told):
  made = scorer(metric_fns=[metric])
  with pytest.raises(UserError, match=f"(?s)variant_task.*{told}"):
    made.score("variant_task", ROWS, ["a", "b"], ["a", "b"])


def test_a_postprocessor_that_fails_is_told_with_the_text(scorer):
  broken = lambda text, example, is_target: 1 / 0  # noqa: E731
  with pytest.raises(UserError, match="postprocessor failed on 'Ana rows': ZeroDiv"):
    scorer(postprocess_fn=broken).references("variant_task", ROWS)


def test_tasks_are_loaded_while_others_work(monkeypatch):
  waited, loads = threading.Event(), []

  def load(asked):
    loads.append(asked)
    assert waited.wait(10)
    raise UserError("TASK_MODULES names 'nothing', which cannot be found.")

  monkeypatch.setattr(definitions, "load", load)
  made = scoring.Scorer("what is asked")
  made.begin()
  made.begin()  # of a second evaluation
  waited.set()
  with pytest.raises(UserError, match="TASK_MODULES"):
    made.references("any", ROWS)
  assert loads == ["what is asked"]


def test_the_import_of_tensorflow_is_silent_and_leaves_stderr_to_other_threads():
  code = """
import os, sys, threading
from t5tune.data import definitions
importing = threading.Thread(target=definitions.import_seqio)
importing.start()
while importing.is_alive():
  print("told", file=sys.stderr)
  importing.join(0.05)
os.write(2, b"heard again")
"""
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  *told, last = done.stderr.splitlines()
  assert done.returncode == 0 and last == "heard again"
  assert set(told) == {"told"} and len(told) > 5

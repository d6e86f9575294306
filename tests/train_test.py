"""Training end to end: what a run leaves, and how it goes on where it stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from tiny_project import checkpoint, contents, flags, records, start

from t5tune import processes, train
from t5tune.training import run_log
from t5tune.training import workdir as work_directory


def steps(workdir) -> list[int]:
  names = [p.name for p in (workdir / "checkpoints").iterdir()]
  return sorted(int(name) for name in names if name.isdigit())


def assert_same_run(found, wanted):
  """Checks that two runs computed and logged the same to the digit."""
  assert records(found) == records(wanted)
  assert steps(found) == steps(wanted)
  for step in steps(wanted):
    assert checkpoint(found, step) == checkpoint(wanted, step)
  for folder in ("scores", "predictions"):
    assert contents(found / folder) == contents(wanted / folder)


@pytest.fixture
def interrupt_at(monkeypatch):
  """Sends this process SIGINT after a given record is logged."""
  written = run_log.RunLog.write

  def interrupt_at(at, signals=1):
    sent = []

    def write(self, step, kind, *rest, **details):
      written(self, step, kind, *rest, **details)
      if (step, kind) == at and not sent:
        for _ in range(signals):
          sent.append(os.kill(os.getpid(), signal.SIGINT))

    monkeypatch.setattr(run_log.RunLog, "write", write)

  yield interrupt_at
  monkeypatch.setattr(run_log.RunLog, "write", written)


def test_what_a_run_leaves_behind(finished):
  assert {p.name for p in finished.iterdir()} >= {
    *("config.gin", "run.json", "spiece.model", "checkpoints", "metrics.jsonl"),
    *("tensorboard", "scores", "predictions"),
  }
  lines = records(finished)
  trained = [line for line in lines if line["kind"] == "train"]
  assert [line["step"] for line in trained] == [1, 2, 3, 4, 5, 6]
  assert trained[-1]["loss"] < trained[0]["loss"]
  scored = {(line["step"], line["task"]) for line in lines if line["kind"] == "eval"}
  assert scored == {(s, t) for s in (0, 2, 4, 6) for t in ("tiny_sums", "tiny_titles")}
  tests = json.loads((finished / "scores" / "test-6.json").read_text())["tasks"]
  assert [(t["task"], t["split"], t["rows"]) for t in tests] == [
    ("tiny_sums", "validation", 9),
    ("tiny_titles", "test", 5),
  ]
  predictions = finished / "predictions" / "tiny_titles-test-6.jsonl"
  assert len(predictions.read_text().splitlines()) == 5
  best = checkpoint(finished, 6)["best"]
  averages = {
    step: json.loads((finished / "scores" / f"validation-{step}.json").read_text())
    for step in (2, 4, 6)
  }
  means = {
    step: sum(t["scores"]["likeness"] for t in scores["tasks"]) / 2
    for step, scores in averages.items()
  }
  assert best["score"] == max(means.values())
  assert best["step"] == max(means, key=means.get)
  assert best["by"] == "average on validation"
  assert set(steps(finished)) == {4, 6, best["step"]}


@pytest.mark.parametrize("recipe", ["tiny.gin", "finished/config.gin"])
def test_a_second_start_of_a_finished_run_trains_nothing(finished, capsys, recipe):
  before = contents(finished)
  del before["config.gin"]  # says where each binding was written
  arguments = flags(finished)
  arguments[0] = f"--gin_file={recipe}"
  assert train.main(arguments) == 0
  shown = capsys.readouterr().out
  assert "step 1/6" not in shown and "Scores at step 6" in shown
  assert "Changed since the last start" not in shown
  after = contents(finished)
  assert {name: after[name] for name in before} == before


def test_a_killed_run_goes_on_to_the_same_end(finished, workplace, tmp_path):
  code = (
    "import os, signal, sys\n"
    "from t5tune import train\n"
    "from t5tune.training import run_log\n"
    "written = run_log.RunLog.write\n"
    "def write(self, step, kind, *rest, **details):\n"
    "  written(self, step, kind, *rest, **details)\n"
    "  if (step, kind) == (5, 'train'):\n"
    "    os.kill(os.getpid(), signal.SIGKILL)\n"
    "run_log.RunLog.write = write\n"
    "train.main(sys.argv[1:])\n"
  )
  workdir = tmp_path / "killed"
  run = [sys.executable, "-c", code, *flags(workdir)]
  done = subprocess.run(run, capture_output=True, text=True)
  assert done.returncode == -signal.SIGKILL, done.stderr
  assert records(workdir)[-1]["step"] == 5
  # As if the disk had taken only part of the last line.
  with (workdir / "metrics.jsonl").open("a") as f:
    f.write('{"step": 6, "ki')
  assert start(workdir) == 0
  assert_same_run(workdir, finished)


def test_a_run_killed_before_its_first_checkpoint_starts_anew(finished, tmp_path):
  workdir = tmp_path / "killed"
  workdir.mkdir()
  for name in ("run.json", "config.gin", "spiece.model"):
    shutil.copy(finished / name, workdir)
  first = (finished / "metrics.jsonl").read_text().splitlines(keepends=True)[:3]
  (workdir / "metrics.jsonl").write_text("".join(first))  # scores of step 0, and step 1
  assert start(workdir) == 0
  assert_same_run(workdir, finished)


def test_an_interrupted_run_goes_on_to_the_same_end(
  finished, tmp_path, interrupt_at, capsys
):
  workdir = tmp_path / "stopped"
  before = signal.getsignal(signal.SIGINT)  # a job in the background ignores it
  interrupt_at((3, "train"))
  assert start(workdir) == 75
  assert 3 in steps(workdir)
  said = capsys.readouterr()
  assert "Stopped at step 3" in said.out and "stopping" in said.err
  assert signal.getsignal(signal.SIGINT) is before
  interrupt_at(None)
  assert start(workdir) == 0
  assert "Continuing from step 3" in capsys.readouterr().out
  assert records(workdir) == records(finished)
  assert checkpoint(workdir, 6) == checkpoint(finished, 6)


def test_an_interrupt_while_scoring_saves_the_step(finished, tmp_path, interrupt_at):
  workdir = tmp_path / "stopped"
  interrupt_at((2, "eval"))
  assert start(workdir, CHECKPOINT_STEPS=100) == 75
  assert 2 in steps(workdir)
  interrupt_at((5, "eval"))  # never
  assert start(workdir, CHECKPOINT_STEPS=100) == 0
  assert records(workdir) == records(finished)


@pytest.mark.parametrize("step", [0, 6])
def test_scoring_before_and_after_training_stops_at_once(
  finished, tmp_path, monkeypatch, interrupt_at, step
):
  workdir, evaluating = tmp_path / "stopped", run_log.Progress.evaluating
  interrupt_at((step, "train"))
  if step == 0:
    stop = lambda *_: os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
    monkeypatch.setattr(run_log.Progress, "evaluating", stop)
  assert start(workdir) == 75
  assert not (workdir / "scores" / f"test-{step}.json").exists()
  assert step == 0 or step in steps(workdir)
  monkeypatch.setattr(run_log.Progress, "evaluating", evaluating)
  interrupt_at(None)
  assert start(workdir) == 0
  assert_same_run(workdir, finished)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_anything_is_there_is_a_stop(
  workplace, tmp_path, monkeypatch, capsys, number
):
  monkeypatch.setattr(
    processes, "together", lambda flags, command: signal.raise_signal(number)
  )
  assert start(tmp_path / "run") == 75
  assert "To continue:" in capsys.readouterr().out
  assert not (tmp_path / "run").exists()


def test_a_second_training_in_the_directory_is_refused(workplace, tmp_path, capsys):
  with work_directory.claimed(tmp_path / "run"):
    assert start(tmp_path / "run") == 2
  assert f"--workdir={tmp_path / 'run'} is in use" in capsys.readouterr().err
  assert [p.name for p in (tmp_path / "run").iterdir()] == ["in_use"]


def test_a_second_interrupt_stops_at_once(workplace, tmp_path, interrupt_at):
  workdir = tmp_path / "stopped"
  interrupt_at((3, "train"), signals=2)
  with pytest.raises(KeyboardInterrupt):
    start(workdir)
  assert 3 not in steps(workdir)


def test_lengths_may_change_and_are_told(finished, tmp_path, capsys):
  workdir = tmp_path / "longer"
  shutil.copytree(finished, workdir)
  assert start(workdir, TRAIN_STEPS=8, EVAL_STEPS=4) == 0
  shown = capsys.readouterr().out
  assert "Changed since the last start" in shown
  assert "TRAIN_STEPS: 8 (was 6)" in shown
  assert "EVAL_STEPS: 4 (was 2)" in shown
  assert "Continuing from step 6" in shown
  trained = [line["step"] for line in records(workdir) if line["kind"] == "train"]
  assert trained == [1, 2, 3, 4, 5, 6, 7, 8]
  assert records(workdir)[: len(records(finished))] == records(finished)
  # Shorter than it already is cannot be.
  before = contents(workdir)
  assert start(workdir, TRAIN_STEPS=5) == 2
  assert "TRAIN_STEPS" in capsys.readouterr().err
  assert contents(workdir) == before


def test_epochs_give_the_length(workplace, tmp_path, capsys):
  bindings = {"TRAIN_STEPS": None, "TRAIN_EPOCHS": 0.05, "PACK": False, "EVAL_STEPS": 0}
  assert start(tmp_path / "run", **bindings) == 0
  # 700 examples, 8 a step.
  trained = [r["step"] for r in records(tmp_path / "run") if r["kind"] == "train"]
  assert trained == [1, 2, 3, 4, 5]
  assert "5 steps = 0.06 epochs" in capsys.readouterr().out


def test_a_run_that_diverges_stops(workplace, tmp_path, capsys):
  workdir = tmp_path / "diverging"
  bindings = {"LEARNING_RATE": 1e15, "EVAL_STEPS": 0}
  assert start(workdir, guard__GuardConfig__max_bad_steps=2, **bindings) == 2
  said = capsys.readouterr()
  assert "2 updates in a row were skipped" in said.err
  assert "Lower LEARNING_RATE" in said.err
  assert "step 2 was skipped: the loss is " in said.out
  skipped = [r["step"] for r in records(workdir) if r["kind"] == "skipped"]
  assert skipped == [2, 3] and steps(workdir) == []
  text = (workdir / "bad_batches" / "3.txt").read_text()
  assert "Row 0, example 1" in text and "target:" in text


def test_an_update_that_is_not_finite_is_never_saved(workplace, tmp_path, capsys):
  workdir = tmp_path / "spoilt"
  assert start(workdir, LEARNING_RATE=1e38, EVAL_STEPS=0, CHECKPOINT_STEPS=1) == 2
  said = capsys.readouterr()
  assert "step 1: this update spoilt the weights" in said.err
  assert "at a learning rate of 1e+38" in said.err and "Traceback" not in said.err
  assert steps(workdir) == []

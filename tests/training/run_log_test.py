"""Tests of metrics.jsonl and of the progress line's arithmetic."""

import io
import json
import math
import subprocess
import sys
import time

import pytest
from rich.console import Console

from t5tune.training import run_log


def records(folder) -> list[dict]:
  lines = (folder / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


@pytest.fixture
def logged(tmp_path):
  log = run_log.RunLog(tmp_path, 0)
  log.write(0, "eval", {"loss": 5.5}, {"split": "test", "task": "a"})
  for step in (1, 2, 3, 4):
    log.write(step, "train", {"loss": 1 / step})
  log.close()
  return tmp_path


def test_records_name_step_kind_and_labels(logged):
  assert records(logged)[:2] == [
    {"step": 0, "kind": "eval", "split": "test", "task": "a", "loss": 5.5},
    {"step": 1, "kind": "train", "loss": 1.0},
  ]
  assert list((logged / "tensorboard").iterdir())


def test_a_restart_drops_what_came_after_its_checkpoint(logged):
  log = run_log.RunLog(logged, 2)
  log.write(3, "train", {"loss": 9.0})
  log.close()
  steps = [(r["step"], r["loss"]) for r in records(logged)]
  assert steps == [(0, 5.5), (1, 1.0), (2, 0.5), (3, 9.0)]


def test_a_restart_without_a_checkpoint_begins_anew(logged):
  # It scores the first weights once more, too.
  run_log.RunLog(logged, 0).close()
  assert records(logged) == []


def test_a_restart_drops_a_line_that_was_cut_short(logged):
  file = logged / "metrics.jsonl"
  for cut in range(1, len('{"step": 4, "kind"')):
    text = file.read_text()
    file.write_text(text + '{"step": 1, "kind": "train", "loss": 0.1}'[:cut])
    run_log.RunLog(logged, 4).close()
    assert file.read_text() == text


@pytest.mark.parametrize("again,left", [([], 3), (["test"], 2), (["validation"], 2)])
def test_an_evaluation_that_was_broken_off_is_logged_anew(tmp_path, again, left):
  log = run_log.RunLog(tmp_path, 0)
  log.write(2, "eval", {"loss": 1.0}, {"purpose": "test"})
  log.write(4, "train", {"loss": 1.0})
  for purpose in ("validation", "test"):
    log.write(4, "eval", {"loss": 1.0}, {"purpose": purpose, "task": "a"})
  log.close()
  run_log.RunLog(tmp_path, 4, again).close()
  steps = [r["step"] for r in records(tmp_path)]
  assert steps == [2] + [4] * left
  assert not {r.get("purpose") for r in records(tmp_path)[1:]} & set(again)


def test_what_is_not_finite_is_null(tmp_path):
  log = run_log.RunLog(tmp_path, 0)
  log.write(3, "skipped", {"loss": math.nan, "grad_norm": math.inf, "rate": 0.5})
  log.close()
  text = (tmp_path / "metrics.jsonl").read_text()
  assert "NaN" not in text and "Infinity" not in text
  assert records(tmp_path) == [
    {"step": 3, "kind": "skipped", "loss": None, "grad_norm": None, "rate": 0.5}
  ]


def test_a_reader_that_goes_away_is_a_sigterm():
  code = (
    "import signal, sys\n"
    "from t5tune.training import run_log\n"
    "console, came = run_log.console(), []\n"
    "signal.signal(signal.SIGTERM, lambda *_: came.append(1))\n"
    "sys.stdin.read()\n"
    "for _ in range(3):\n"
    "  console.print('step')\n"
    "  print('step', flush=True)\n"
    "sys.exit(70 + len(came))\n"
  )
  ends = {
    "stdin": subprocess.PIPE,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.PIPE,
  }
  training = subprocess.Popen([sys.executable, "-c", code], **ends)
  training.stdout.close()
  training.stdin.close()
  assert training.wait(60) == 71
  assert b"has gone away: stopping" in training.stderr.read()


def test_values_are_on_disk_at_once(tmp_path):
  log = run_log.RunLog(tmp_path, 0)
  log.write(1, "train", {"loss": 2.0})
  assert records(tmp_path)[0]["loss"] == 2.0  # before anything is closed
  log.close()


class Clock:
  """A clock that a test moves."""

  def __init__(self, monkeypatch):
    self.now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
  return Clock(monkeypatch)


def progress(step: int, total: int):
  """Returns a progress that prints lines, and what it prints to."""
  out = io.StringIO()
  return run_log.Progress(Console(file=out, width=160), step, total), out


def test_throughput_and_waiting_are_since_the_latest_line(clock):
  shown, out = progress(0, 100)
  with shown:
    clock.now += 4
    shown.waited(1.0)
    first = shown.line(1, 2.5, target_tokens=2000)
    clock.now += 2
    second = shown.line(11, 2.0, target_tokens=3000)
  assert first == {"target_tokens_per_second": 500.0, "data_wait_share": 0.25}
  assert second == {"target_tokens_per_second": 1500.0, "data_wait_share": 0.0}
  lines = out.getvalue().splitlines()
  assert lines[0].startswith("step 1/100  loss 2.500  500 target tokens/s  ETA")
  assert lines[1].startswith("step 11/100  loss 2.000  1,500 target tokens/s  ETA")
  assert lines[1].endswith("data wait 0.0% (1.0 s)")  # in all


def lines_every_ten_steps(clock, shown, first: int, count: int, pace: float):
  """Shows a compiling first step, then a line for every ten steps."""
  clock.now += 60
  shown.line(first, 2.5, 100)
  for i in range(1, count + 1):
    clock.now += 10 * pace
    shown.line(first + 10 * i, 2.5, 1000)


@pytest.mark.parametrize("start", [0, 900])
def test_what_is_left_is_at_the_pace_since_the_first_step(clock, start):
  # The first step compiles, and a restart's steps before it are none of its own.
  shown, out = progress(start, start + 101)
  with shown:
    lines_every_ten_steps(clock, shown, start + 1, 3, pace=2.0)
  last = out.getvalue().splitlines()[-1]
  assert last.startswith(f"step {start + 31}/{start + 101} ")
  assert "ETA 2:20" in last  # 70 steps of 2 s


def test_an_evaluation_counts_neither_for_pace_nor_throughput(clock):
  shown, out = progress(0, 101)
  with shown:
    lines_every_ten_steps(clock, shown, 1, 1, pace=2.0)
    with shown.evaluation():
      shown.evaluating("task", 1, 2, 0.25)
      clock.now += 1000
    clock.now += 20
    assert shown.line(21, 2.5, 1000)["target_tokens_per_second"] == 50
  assert "ETA 2:40" in out.getvalue().splitlines()[-1]


@pytest.mark.parametrize(
  "seconds,text",
  [
    (0, "0:00"),
    (0.2, "0:01"),
    (59.5, "1:00"),
    (61, "1:01"),
    (3723, "1:02:03"),
    (-5, "0:00"),
  ],
)
def test_clock(seconds, text):
  assert run_log.clock(seconds) == text


def test_an_evaluation_shows_when_it_ends(clock):
  shown, out = progress(0, 101)
  with shown, shown.evaluation():
    clock.now += 30
    shown.evaluating("one", 8, 8, 0.25)
    clock.now += 90
    shown.evaluating("two", 24, 24, 1.0)
  lines = out.getvalue().splitlines()
  assert lines == ["evaluated one: 8 rows  ETA 1:30", "evaluated two: 24 rows"]

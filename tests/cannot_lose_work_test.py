"""Kills real trainings, with SIGKILL and SIGTERM, and compares what they come to."""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tiny_project import checkpoint, contents, flags, prepare, records

from t5tune import command_line
from t5tune.training import checkpoint_files, checkpoints

pytestmark = pytest.mark.long

KILLS = 36
SETTINGS = {
  **{"TRAIN_STEPS": 40, "CHECKPOINT_STEPS": 1, "EVAL_STEPS": 20, "EVAL_EXAMPLES": 3},
  **{"TEST_EXAMPLES": 3, "BATCH_SIZE": 8},
}
GRACE = 30  # seconds that a scheduler leaves after SIGTERM


class Training:
  """A training in a process, and a session, of its own."""

  def __init__(self, workdir: pathlib.Path, stores: pathlib.Path, **settings):
    self.workdir, self.stores = workdir, stores
    self._log = open(workdir.with_suffix(".log"), "w")
    given = [*flags(workdir, **{**SETTINGS, **settings}), f"--store_dir={stores}"]
    self.process = subprocess.Popen(
      [sys.executable, "-m", "t5tune.train", *given],
      stdout=self._log,
      stderr=subprocess.STDOUT,
      start_new_session=True,
    )

  def wait_for(self, happened, patience: float = 300) -> bool:
    """Waits until something happened; returns whether the training still runs."""
    until = time.monotonic() + patience
    while self.process.poll() is None and not happened():
      assert time.monotonic() < until, self.said()
      time.sleep(0.0005)
    return self.process.poll() is None

  def kill(self, everything: bool) -> None:
    """Kills the trainer, alone or with the processes it started."""
    if everything and self.process.poll() is None:
      os.killpg(self.process.pid, signal.SIGKILL)
    self.process.kill()  # nothing where it has ended

  def end(self) -> int:
    """Waits for the end; returns the exit status."""
    status = self.process.wait(300)
    self._log.close()
    return status

  def said(self) -> str:
    return self.workdir.with_suffix(".log").read_text()

  def is_saving(self) -> bool:
    return bool(list((self.workdir / "checkpoints").glob("*.*")))

  def num_records(self) -> int:
    file = self.workdir / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def values(workdir, step: int) -> dict[str, np.ndarray]:
  """Returns the parameters of a checkpoint."""
  saved = checkpoints.Checkpoints(workdir / "checkpoints", read_only=True)
  names = [n for n in checkpoint(workdir, step)["checksums"] if n.startswith("params/")]
  read = saved.param_reader(step)
  return {name: read(tuple(name.split("/")[1:])) for name in names}


def assert_same_end(found, wanted) -> None:
  """Checks that two runs came to the same weights, metrics, scores and predictions."""
  last = SETTINGS["TRAIN_STEPS"]
  assert records(found) == records(wanted)
  assert checkpoint(found, last) == checkpoint(wanted, last)
  ours, theirs = values(found, last), values(wanted, last)
  assert ours.keys() == theirs.keys() and len(ours) > 10
  for name in ours:
    assert ours[name].tobytes() == theirs[name].tobytes(), name
  for folder in ("scores", "predictions"):
    assert contents(found / folder) == contents(wanted / folder)


@pytest.fixture
def uninterrupted(workplace, tmp_path):
  """A run that nothing happened to."""
  prepare(**SETTINGS)
  run = Training(tmp_path / "uninterrupted", workplace / "stores")
  assert run.end() == 0, run.said()
  return run.workdir


def kill_while_stores_are_built(run: Training, rng) -> str:
  run.wait_for(lambda: run.stores.exists() and any(run.stores.iterdir()))
  time.sleep(rng.uniform(0, 3))
  return "stores"


def kill_while_saving(run: Training, rng) -> str:
  before = run.num_records()
  wanted = before + rng.randrange(1, 8)
  run.wait_for(lambda: run.num_records() >= wanted)
  run.wait_for(run.is_saving)
  time.sleep(rng.uniform(0, 0.05))
  return "save"


def kill_any_time(run: Training, rng) -> str:
  wanted = run.num_records() + rng.randrange(0, 15)
  run.wait_for(lambda: run.num_records() >= wanted)
  time.sleep(rng.uniform(0, 0.3))
  return "any"


def kill_at_start(run: Training, rng) -> str:
  run.wait_for(lambda: "CHECKPOINT_STEPS" in run.said())
  time.sleep(rng.uniform(0, 3))
  return "start"


def kill_at_once(run: Training, rng) -> str:
  time.sleep(rng.uniform(0, 6))
  return "at once"


def test_kill_9_at_random_moments_changes_nothing(uninterrupted, tmp_path):
  rng, kills, ended, halves = random.Random(0), [], 0, 0
  while len(kills) < KILLS or not ended:
    workdir, stores = tmp_path / f"run{ended}", tmp_path / f"stores{ended}"
    moments = [kill_while_stores_are_built] * 3
    while True:
      run = Training(workdir, stores)
      common = [*[kill_while_saving] * 3, kill_any_time, kill_at_start, kill_at_once]
      moment = moments.pop() if moments else rng.choice(common)
      if len(kills) < KILLS:
        kind = moment(run, rng)
        halves += run.is_saving()
        run.kill(everything=rng.random() < 0.5)
      status = run.end()
      if status == 0:
        break
      assert status == -signal.SIGKILL, run.said()
      kills.append(kind)
    assert_same_end(workdir, uninterrupted)
    assert not (workdir / "damaged").exists()  # a kill damages nothing
    left = {p.name for p in (workdir / "checkpoints").iterdir()}
    assert left == {p.name for p in (uninterrupted / "checkpoints").iterdir()}
    shutil.rmtree(stores)
    ended += 1
  print(f"{len(kills)} kills {kills} in {ended} runs; {halves} with half a checkpoint")
  assert kills.count("save") >= 5 and kills.count("stores") >= 3 and halves >= 5


def test_sigterm_is_answered_in_time_and_loses_nothing(uninterrupted, tmp_path):
  rng, workdir, slowest, stops = random.Random(1), tmp_path / "run", 0.0, 0
  stores = tmp_path / "stores"
  scores = lambda run: len(list((run.workdir / "predictions").glob("*")))  # noqa: E731
  moments = [
    kill_while_stores_are_built,
    kill_at_start,
    kill_any_time,
    lambda run, rng: run.wait_for(lambda: run.num_records() >= 30),  # evaluating
    lambda run, rng: run.wait_for(lambda: scores(run) > 4),
    *[kill_any_time, kill_while_saving] * 2,
  ]
  for moment in [*moments, None]:
    run = Training(workdir, stores)
    if moment:
      moment(run, rng)
      run.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    status = run.end()
    if status == 0:
      break
    slowest, stops = max(slowest, time.monotonic() - began), stops + 1
    assert status == command_line.SAVED_NOT_FINISHED, run.said()
    assert "Stopped; everything is saved. To continue:" in run.said()
    for step in checkpoint_files.steps(workdir / "checkpoints"):
      assert not checkpoint_files.damage(workdir / "checkpoints" / str(step))
    if run.num_records():  # not one step is lost
      made = [r["step"] for r in records(workdir) if r["kind"] == "train"]
      saved = checkpoint_files.steps(workdir / "checkpoints")
      assert (made or [0])[-1] == (saved or [0])[-1]
  assert status == 0, run.said()
  print(f"{stops} stops, the slowest took {slowest:.1f} s")
  assert stops >= 4 and slowest < GRACE
  assert_same_end(workdir, uninterrupted)

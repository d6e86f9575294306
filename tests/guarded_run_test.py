"""Runs that meet what goes wrong in the middle: bad batches, damage, a full disk."""

import json
import resource
import shutil
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_project import checkpoint, contents, records, start

from t5tune import fit
from t5tune.training import checkpoint_files, run_log

# Of a write that fails, orbax drops the other half without awaiting it.
pytestmark = pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def poison(monkeypatch):
  """Gives the batches of some steps weights that are no numbers."""
  taken, poisoned = fit.Fit._next_batch, []
  state = {"step": 0}

  def next_batch(*arguments):
    batch = taken(*arguments)
    state["step"] += 1
    if state["step"] in poisoned:
      weights = batch["decoder_loss_weights"]
      batch["decoder_loss_weights"] = jax.device_put(
        jnp.full_like(weights, jnp.nan), weights.sharding
      )
    return batch

  def poison(steps, after=0):
    poisoned[:], state["step"] = steps, after

  monkeypatch.setattr(fit.Fit, "_next_batch", next_batch)
  return poison


def test_bad_batches_are_skipped_kept_and_told(workplace, tmp_path, poison, capsys):
  workdir = tmp_path / "run"
  poison([2, 3])
  assert start(workdir) == 0
  said = capsys.readouterr().out
  skipped = [r for r in records(workdir) if r["kind"] == "skipped"]
  assert [(r["step"], r["loss"], r["why"]) for r in skipped] == [
    (2, None, "the loss is nan"),
    (3, None, "the loss is nan"),
  ]
  assert f"step 2 was skipped: the loss is nan. The batch: {workdir}/bad_batch" in said
  losses = {r["step"]: r["loss"] for r in records(workdir) if r["kind"] == "train"}
  assert losses[2] is losses[3] is None and np.isfinite([losses[4], losses[6]]).all()
  # The text is what the rows say, the arrays what the step got.
  text = (workdir / "bad_batches" / "2.txt").read_text()
  assert "Step 2 was skipped: the loss is nan." in text and "Row 7, example 1" in text
  with np.load(workdir / "bad_batches" / "2.npz") as kept:
    assert kept["encoder_input_tokens"].shape[0] == 8
    assert np.isnan(kept["decoder_loss_weights"]).all()
  # Stopped between the two and started again, it says and computes the same.
  stopped, written = tmp_path / "stopped", run_log.RunLog.write
  poison([2, 3])
  with pytest.MonkeyPatch.context() as patch:

    def stop_at_2(self, step, kind, *rest, **details):
      written(self, step, kind, *rest, **details)
      if (step, kind) == (2, "train"):
        signal.raise_signal(signal.SIGTERM)

    patch.setattr(run_log.RunLog, "write", stop_at_2)
    assert start(stopped) == 75
  poison([2, 3], after=2)
  assert start(stopped) == 0
  assert records(stopped) == records(workdir)
  assert checkpoint(stopped, 6) == checkpoint(workdir, 6)
  assert contents(stopped / "bad_batches") == contents(workdir / "bad_batches")


def flip_a_bit(folder) -> None:
  largest = max(folder.rglob("*"), key=lambda p: p.stat().st_size)
  data = bytearray(largest.read_bytes())
  data[len(data) // 2] ^= 4
  largest.write_bytes(data)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
  finished, tmp_path, capsys
):
  workdir = tmp_path / "run"
  shutil.copytree(finished, workdir)
  flip_a_bit(workdir / "checkpoints" / "6")
  assert start(workdir) == 0
  said = " ".join(capsys.readouterr().out.split())
  assert f"checkpoint {workdir}/checkpoints/6 is damaged: arrays/" in said
  assert f"It is now {workdir}/damaged/6; going on from step 4." in said
  assert "Continuing from step 4" in said
  assert checkpoint(workdir, 6) == checkpoint(finished, 6)
  assert records(workdir) == records(finished)
  assert (workdir / "damaged" / "6").is_dir()


def test_a_full_disk_leaves_the_previous_checkpoint(
  finished, tmp_path, monkeypatch, capsys
):
  workdir, written = tmp_path / "run", run_log.RunLog.write
  before = resource.getrlimit(resource.RLIMIT_FSIZE)

  def fill_at_3(self, step, kind, *rest, **details):
    written(self, step, kind, *rest, **details)
    if (step, kind) == (3, "train"):
      while not (workdir / "checkpoints" / "2").exists():
        time.sleep(0.01)
      resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))

  monkeypatch.setattr(run_log.RunLog, "write", fill_at_3)
  try:
    assert start(workdir) == 2
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  said = capsys.readouterr().err
  assert f"error: cannot write a checkpoint to {workdir}/checkpoints: File too" in said
  assert "Complete checkpoints: 2. Free space there, then start again" in said
  assert [p.name for p in (workdir / "checkpoints").iterdir()] == ["2"]
  assert checkpoint_files.damage(workdir / "checkpoints" / "2") is None
  monkeypatch.setattr(run_log.RunLog, "write", written)
  assert start(workdir) == 0
  assert records(workdir) == records(finished)
  assert checkpoint(workdir, 6) == checkpoint(finished, 6)
  assert json.loads((workdir / "scores/test-6.json").read_text())["step"] == 6

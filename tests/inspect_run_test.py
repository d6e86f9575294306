"""`inspect_tasks --run` shows the very arrays that training steps received."""

import hashlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tiny_project import records, start

from t5tune import fit, inspect_tasks
from t5tune.data.inspection import run_batches
from t5tune.errors import UserError
from t5tune.training import checkpoints, run_log

FAST = {
  **{"TRAIN_STEPS": 12, "EVAL_STEPS": 0, "CHECKPOINT_STEPS": 4, "TEST_EXAMPLES": 1},
  **{"run__Run__eval_before": False, "run__Run__log_steps": 5},
}


def digest(arrays) -> str:
  """Returns a hash of a batch: names, types, shapes and values."""
  found = hashlib.sha256()
  for name in sorted(arrays):
    array = np.asarray(arrays[name])
    found.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
  return found.hexdigest()


@pytest.fixture
def received(monkeypatch):
  """Hashes of the batches that training steps take, in the order they take them."""
  hashes, taken = [], fit.Fit._next_batch

  def next_batch(*arguments):
    batch = taken(*arguments)
    hashes.append(digest(batch))
    return batch

  monkeypatch.setattr(fit.Fit, "_next_batch", next_batch)
  return hashes


@pytest.fixture
def kill_at(monkeypatch):
  """Ends this process's training after a step is logged, before it is saved.

  Checkpoints are waited for: what a killed process was writing would, in this one, go
  on being written.
  """
  written, save = run_log.RunLog.write, checkpoints.Checkpoints.save

  def save_and_wait(self, *arguments):
    save(self, *arguments)
    self.wait()

  def kill_at(step):
    def write(self, at, kind, *rest, **details):
      written(self, at, kind, *rest, **details)
      if (at, kind) == (step, "train"):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_log.RunLog, "write", write if step else written)

  monkeypatch.setattr(checkpoints.Checkpoints, "save", save_and_wait)
  return kill_at


@pytest.mark.parametrize("pack", [True, False])
def test_a_batch_is_what_its_step_received(
  workplace, tmp_path, received, kill_at, pack
):
  workdir, bindings = tmp_path / "run", {**FAST, "PACK": pack}
  kill_at(10)
  with pytest.raises(KeyboardInterrupt):
    start(workdir, **bindings)
  before = list(received)
  assert len(before) == 10

  batches = run_batches.RunBatches(workdir)
  assert [digest(batches.batch(s).arrays) for s in range(1, 11)] == before
  assert batches.batch(12).logged == 10

  received.clear()
  kill_at(None)
  assert start(workdir, **bindings) == 0
  assert len(received) == 4  # from the checkpoint of step 8 on
  assert received[:2] == before[8:]
  steps = [*before[:8], *received]
  batches = run_batches.RunBatches(workdir)
  for step in (7, 1, 12, 10, 3, 9):
    assert digest(batches.batch(step).arrays) == steps[step - 1]
  logged = [r["step"] for r in records(workdir) if r["kind"] == "train"]
  assert batches.batch(1).logged == logged[-1] == 12


def test_a_run_made_longer_keeps_its_earlier_batches(workplace, tmp_path, received):
  workdir = tmp_path / "run"
  for steps in (16, 60):  # the longer one reads more passes of the data
    assert start(workdir, **{**FAST, "TRAIN_STEPS": steps}) == 0
  starts = json.loads((workdir / "data.json").read_text())["starts"]
  assert [s["after_step"] for s in starts] == [0, 16]
  batches = run_batches.RunBatches(workdir)
  assert [digest(batches.batch(s).arrays) for s in range(1, 61)] == received


def test_rows_are_shown_as_the_model_sees_them(finished, tmp_path, capsys):
  assert inspect_tasks.main([f"--run={finished}", "--step=2"]) == 0
  shown = capsys.readouterr().out
  batch = run_batches.RunBatches(finished).batch(2)
  examples = [e for row in batch.rows for e in row]
  assert "Step 2 of mixture tiny_mixture" in shown
  assert shown.count("\nRow ") == len(batch.rows) == 8
  for example in examples:
    assert (
      f"{example.task}, pass {example.pass_index + 1}, record {example.record}:"
      in (shown)
    )
    assert example.inputs[:40] in shown and example.targets in shown
  kinds = {e.task: e.inputs for e in examples}
  assert any(word in kinds["tiny_titles"] for word in ("title", "Title"))

  page = tmp_path / "row.html"
  only = [f"--run={finished}", "--step=2", "--row=3", f"--html={page}"]
  assert inspect_tasks.main(only) == 0
  shown = capsys.readouterr().out
  assert shown.count("\nRow ") == 1 and "\nRow 3: " in shown
  assert page.read_text().count("<h2>") == 1 and "<h2>Row 3: " in page.read_text()


def test_a_row_beyond_the_batch(finished):
  with pytest.raises(UserError, match="--row=8: .* 0 to 7"):
    inspect_tasks.main([f"--run={finished}", "--step=2", "--row=8"])


def test_no_tensorflow_is_needed(finished, tmp_path):
  page = tmp_path / "batch.html"
  code = (
    "import sys\n"
    "for name in ('tensorflow', 'seqio'): sys.modules[name] = None\n"
    "from t5tune import inspect_tasks\n"
    f"inspect_tasks.main(['--run={finished}', '--step=6', '--html={page}'])\n"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert "Step 6 of mixture tiny_mixture" in done.stdout
  assert "Row 7: " in page.read_text()


def test_a_run_whose_stores_are_gone(finished, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(finished, workdir)
  text = (workdir / "data.json").read_text()
  (workdir / "data.json").write_text(text.replace("stores/", "nowhere/"))
  with pytest.raises(UserError, match="nowhere/.*no longer there.*t5tune.prepare"):
    inspect_tasks.main([f"--run={workdir}", "--step=2"])

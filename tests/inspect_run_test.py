"""`inspect_tasks --run` shows the very arrays that training steps received."""

import hashlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tiny_project import records, start

from t5tune import inspect_tasks, train
from t5tune.data.inspection import run_batches
from t5tune.errors import UserError
from t5tune.training import run_log

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
  hashes, taken = [], train._next_batch

  def next_batch(*arguments):
    batch = taken(*arguments)
    hashes.append(digest(batch))
    return batch

  monkeypatch.setattr(train, "_next_batch", next_batch)
  return hashes


@pytest.fixture
def kill_at(monkeypatch):
  """Ends this process's training after a step is logged, before anything is saved."""
  written = run_log.RunLog.write

  def kill_at(step):
    def write(self, at, kind, *rest, **details):
      written(self, at, kind, *rest, **details)
      if (at, kind) == (step, "train"):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_log.RunLog, "write", write if step else written)

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
  resumed_at = 12 - len(received)
  assert resumed_at in (4, 8)  # the checkpoint of step 8 may not have been whole
  steps = [*before[:resumed_at], *received]
  batches = run_batches.RunBatches(workdir)
  for step in (7, 1, 12, 10, 3, 9):
    assert digest(batches.batch(step).arrays) == steps[step - 1]
  logged = [r["step"] for r in records(workdir) if r["kind"] == "train"]
  assert batches.batch(1).logged == logged[-1] == 12


def test_rows_are_shown_as_the_model_sees_them(finished, capsys):
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

  assert inspect_tasks.main([f"--run={finished}", "--step=2", "--row=3"]) == 0
  shown = capsys.readouterr().out
  assert shown.count("\nRow ") == 1 and "\nRow 3: " in shown


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

"""Tests of the work directory: what it refuses, and that it changes nothing."""

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from t5tune import errors
from t5tune.training import workdir

IDENTITY = {
  "model": {"emb_dim": 512, "mlp_activations": ("gelu", "linear")},
  "VOCABULARY": "a1",
  "BATCH_SIZE": 32,
  "optimizer": {"learning_rate": 1e-3, "clip_norm": None},
}


def tree(folder: pathlib.Path) -> dict[str, tuple[bytes, int]]:
  """Returns the files below a folder, with content and time of change."""
  files = [p for p in folder.rglob("*") if p.is_file()]
  return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


@pytest.fixture
def vocabulary(tmp_path):
  path = tmp_path / "mini.model"
  path.write_bytes(b"\x00\xff pieces")
  return path


@pytest.fixture
def begun(tmp_path, vocabulary):
  workdir.begin(tmp_path / "run", IDENTITY, "A = 1\n", vocabulary)
  (tmp_path / "run" / "checkpoints" / "200").mkdir(parents=True)
  return tmp_path / "run"


def changed(**changes):
  return {**IDENTITY, **changes}


def test_a_directory_that_does_not_exist_is_fine_and_not_made(tmp_path):
  workdir.check(tmp_path / "deep" / "run", IDENTITY, 100)
  assert not list(tmp_path.iterdir())


def test_the_same_run_may_go_on(begun):
  before = tree(begun)
  workdir.check(begun, IDENTITY, 200)
  workdir.check_model(begun, IDENTITY)
  assert tree(begun) == before


def test_another_run_is_refused_with_every_difference(begun):
  before = tree(begun)
  other = changed(
    BATCH_SIZE=64, model={"emb_dim": 768, "mlp_activations": ["gelu", "linear"]}
  )
  other["optimizer"] = {"learning_rate": 1e-3, "clip_norm": 1.0}
  with pytest.raises(errors.UserError) as e:
    workdir.check(begun, other, 300)
  lines = str(e.value).splitlines()
  assert str(begun) in lines[0] and "other settings" in lines[0]
  assert lines[1:-1] == [
    "  BATCH_SIZE: 32 there, 64 now",
    "  model.emb_dim: 512 there, 768 now",
    "  optimizer.clip_norm: None there, 1.0 now",
  ]
  assert "new --workdir" in lines[-1]
  assert tree(begun) == before


def test_a_setting_that_is_new_or_gone_is_a_difference(begun):
  with pytest.raises(errors.UserError, match="z_loss: None there, 0.1 now"):
    workdir.check(begun, changed(z_loss=0.1), 300)
  gone = {k: v for k, v in IDENTITY.items() if k != "BATCH_SIZE"}
  with pytest.raises(errors.UserError, match="BATCH_SIZE: 32 there, None now"):
    workdir.check(begun, gone, 300)


def test_a_run_that_went_further_is_refused(begun):
  (begun / "checkpoints" / "300.partial").mkdir()  # never finished
  with pytest.raises(
    errors.UserError, match="at step 200, beyond the 199 steps of this one"
  ):
    workdir.check(begun, IDENTITY, 199)


def test_a_file_in_place_of_the_directory(tmp_path):
  file = tmp_path / "file"
  file.write_text("kept")
  for path in (file, file / "run"):
    with pytest.raises(errors.UserError, match=f"{file} is a file, not a directory"):
      workdir.check(path, IDENTITY, 1)
  assert file.read_text() == "kept"


def test_a_file_in_place_of_the_checkpoints(tmp_path):
  (tmp_path / "checkpoints").write_text("kept")
  with pytest.raises(errors.UserError, match="checkpoints is a file, .* move it away"):
    workdir.check(tmp_path, IDENTITY, 1)


def test_one_training_at_a_time(tmp_path):
  with workdir.claimed(tmp_path / "run"):
    with pytest.raises(errors.UserError, match=f"in use: process {os.getpid()} on "):
      with workdir.claimed(tmp_path / "run"):
        pass
  with workdir.claimed(tmp_path / "run"):  # whoever was there before has ended
    pass


def test_who_was_killed_holds_no_directory(tmp_path):
  code = (
    "import os, pathlib, signal\n"
    "from t5tune.training import workdir\n"
    f"with workdir.claimed(pathlib.Path({str(tmp_path)!r})):\n"
    "  os.kill(os.getpid(), signal.SIGKILL)\n"
  )
  assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
  assert "process " in (tmp_path / "in_use").read_text()
  with workdir.claimed(tmp_path):
    pass


def test_only_a_full_disk_asks_for_space(tmp_path):
  say = lambda number: str(workdir.cannot_write(tmp_path, OSError(number, "no")))  # noqa: E731
  assert "Free space there" in say(errno.ENOSPC)
  assert "directory that can be written" in say(errno.EACCES)


def test_checkpoints_of_nobody_knows_which_run(tmp_path):
  (tmp_path / "checkpoints").mkdir()
  with pytest.raises(errors.UserError, match="checkpoints but no run.json"):
    workdir.check(tmp_path, IDENTITY, 1)


@pytest.mark.parametrize("text", ['{"BATCH_SI', "", "[1, 2]", "7"])
def test_a_damaged_record_is_no_traceback(begun, text):
  (begun / "run.json").write_text(text)
  for check in (
    lambda: workdir.check(begun, IDENTITY, 300),
    lambda: workdir.check_model(begun, IDENTITY),
  ):
    with pytest.raises(errors.UserError, match="run.json is damaged"):
      check()


def test_evaluation_asks_only_for_model_and_vocabulary(begun, tmp_path):
  workdir.check_model(begun, changed(BATCH_SIZE=64))
  with pytest.raises(errors.UserError, match="VOCABULARY: 'a1' there, 'b2' now"):
    workdir.check_model(begun, changed(VOCABULARY="b2", BATCH_SIZE=64))
  with pytest.raises(errors.UserError, match="holds no run"):
    workdir.check_model(tmp_path / "absent", IDENTITY)


def test_changed_bindings(tmp_path, vocabulary):
  before = "A = 1  # run.gin:3\nB = 'x = y'  # default\nrun.Run.mesh = {'data': 2}\n"
  assert workdir.changed_bindings(tmp_path, before) == []  # nothing to compare with
  workdir.begin(tmp_path, IDENTITY, before, vocabulary)
  moved = before.replace("run.gin:3", "command line")
  assert workdir.changed_bindings(tmp_path, moved) == []
  after = "A = 2  # run.gin:3\nB = 'x = y'\nC = None\n"
  assert workdir.changed_bindings(tmp_path, after) == [
    "A: 2 (was 1)",
    "C: None (was unset)",
    "run.Run.mesh: unset (was {'data': 2})",
  ]


def test_begin_writes_what_reruns_the_job(begun, vocabulary):
  assert (begun / "config.gin").read_text() == "A = 1\n"
  assert workdir.vocabulary(begun).read_bytes() == vocabulary.read_bytes()
  record = json.loads((begun / "run.json").read_text())
  assert record["BATCH_SIZE"] == 32
  assert (begun / "run.json").stat().st_mode & 0o777 == 0o644


def test_scores_of_steps_to_come_are_dropped(tmp_path):
  workdir.drop_scores(tmp_path, 4)  # nothing there
  for name in ("test-0", "test-4", "validation-4", "validation-6", "test-12", "notes"):
    workdir.write_atomically(tmp_path / "scores" / f"{name}.json", "{}")
  workdir.drop_scores(tmp_path, 4)
  left = sorted(p.stem for p in (tmp_path / "scores").iterdir())
  assert left == ["notes", "test-0", "test-4", "validation-4"]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
  file = tmp_path / "deep" / "file.txt"
  workdir.write_atomically(file, "old\n")

  def full(fd):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(errors.UserError, match=f"cannot write {file}: No space left"):
    workdir.write_atomically(file, "new\n")
  assert file.read_text() == "old\n"
  assert list(file.parent.iterdir()) == [file]


def test_a_directory_in_place_of_a_file(tmp_path):
  (tmp_path / "run.json").mkdir()
  with pytest.raises(errors.UserError, match="cannot write .*run.json"):
    workdir.write_atomically(tmp_path / "run.json", "text")
  assert [p.name for p in tmp_path.iterdir()] == ["run.json"]

"""A run's settings are checked before anything is done."""

import dataclasses
import json
import math

import pytest

from t5tune import run
from t5tune.data import index
from t5tune.errors import UserError
from t5tune.models import t5
from t5tune.training import optimizers

MODEL = t5.T5Config(
  emb_dim=16,
  num_heads=2,
  head_dim=8,
  mlp_dim=32,
  num_encoder_layers=1,
  num_decoder_layers=1,
)


def make(**changes) -> run.Run:
  values = {
    "mixture": "m",
    "init": "scratch",
    "model": MODEL,
    "optimizer": optimizers.OptimizerConfig(),
    "batch_size": 8,
    "input_length": 32,
    "target_length": 16,
    "train_steps": 10,
  }
  return run.Run(**{**values, **changes})


@pytest.mark.parametrize(
  "changes, words",
  [
    ({"train_steps": None}, "TRAIN_STEPS and TRAIN_EPOCHS: neither"),
    ({"train_epochs": 2.0}, "TRAIN_STEPS and TRAIN_EPOCHS: both"),
    ({"train_steps": 0}, "TRAIN_STEPS = 0: it must be at least 1"),
    ({"train_steps": None, "train_epochs": 0.0}, "TRAIN_EPOCHS = 0.0"),
    ({"train_steps": None, "train_epochs": -1.0}, "TRAIN_EPOCHS = -1.0"),
    ({"batch_size": 0}, "BATCH_SIZE = 0"),
    ({"input_length": -4}, "INPUT_LENGTH = -4"),
    ({"target_length": 0}, "TARGET_LENGTH = 0"),
    ({"eval_examples": 0}, "EVAL_EXAMPLES = 0"),
    ({"test_examples": 0}, "TEST_EXAMPLES = 0"),
    ({"checkpoint_steps": 0}, "CHECKPOINT_STEPS = 0"),
    ({"eval_batch_size": 0}, "Run.eval_batch_size = 0"),
    ({"keep_checkpoints": 0}, "Run.keep_checkpoints = 0"),
    ({"log_steps": 0}, "Run.log_steps = 0"),
    ({"max_passes": 0}, "Run.max_passes = 0"),
    ({"microbatches": 0}, "Run.microbatches = 0"),
    ({"eval_steps": -5}, "EVAL_STEPS = -5: it must be 0, for never, or more"),
    ({"z_loss": -1.0}, "Run.z_loss = -1.0"),
    ({"z_loss": math.inf}, "Run.z_loss = inf"),
    ({"seed": -1}, "SEED = -1"),
    ({"seed": 2**32}, "SEED = 4294967296"),
    ({"packed_lengths": (31, 16)}, "at least INPUT_LENGTH = 32"),
    ({"packed_lengths": (64, 15)}, "TARGET_LENGTH = 16"),
    ({"packed_lengths": (64,)}, "Run.packed_lengths"),
  ],
)
def test_settings_that_cannot_be(changes, words):
  with pytest.raises(UserError, match=words):
    make(**changes)


@pytest.mark.parametrize(
  "batch_size, shards, microbatches, nearest",
  [(8, 3, 1, "6 or 9"), (8, 8, 2, "16"), (12, 4, 2, "8 or 16")],
)
def test_batches_that_do_not_divide(batch_size, shards, microbatches, nearest):
  made = make(batch_size=batch_size, microbatches=microbatches)
  with pytest.raises(UserError, match=f"Set BATCH_SIZE to {nearest}\\."):
    made.check_batch(shards)
  make(batch_size=48, microbatches=microbatches).check_batch(shards)


def test_rows_are_as_long_as_said():
  assert make().row_lengths is None  # the data choose
  assert make(pack=False).row_lengths == (32, 16)
  assert make(packed_lengths=(64, 40)).row_lengths == (64, 40)
  assert make(packed_lengths=(64, 40), pack=False).row_lengths == (32, 16)


def test_a_vocabulary_must_be_named(tmp_path, monkeypatch):
  with pytest.raises(UserError, match="VOCABULARY is not set"):
    make().vocabulary_path()
  # With weights of one's own it lies beside them.
  (tmp_path / "weights").mkdir()
  (tmp_path / "weights" / "spiece.model").write_text("")
  monkeypatch.chdir(tmp_path)
  path = make(init="weights").vocabulary_path()
  assert path == tmp_path / "weights" / "spiece.model"


def test_the_data_directory_may_come_from_the_environment(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.delenv("T5TUNE_DATA_DIR", raising=False)

  def asked(data_dir):
    return make().request(data_dir, tmp_path / "v.model", train=True)

  assert asked(None).data_dir is None
  assert asked("rows").data_dir == str(tmp_path / "rows")
  monkeypatch.setenv("T5TUNE_DATA_DIR", "/elsewhere")
  assert asked(None).data_dir == "/elsewhere"
  assert asked("rows").data_dir == str(tmp_path / "rows")
  assert asked("rows").splits == ("validation", "test")
  only = make(eval_split="dev", test_split="dev")
  assert only.request(None, tmp_path / "v.model", train=True).splits == ("dev",)


def test_identity_is_what_is_computed():
  def identity(vocabulary="v", data="d", lengths=(32, 16), **changes):
    mixture = index.PreparedMixture("m", (), data, lengths)
    return json.dumps(make(**changes).identity(vocabulary, mixture), sort_keys=True)

  first = identity()
  how = {
    "mesh": {"data": 1, "fsdp": -1},
    "train_steps": 99,
    "eval_steps": 7,
    "checkpoint_steps": 3,
    "log_steps": 1,
    "eval_batch_size": 4,
    "microbatches": 2,
    "model": dataclasses.replace(MODEL, dtype="bfloat16", remat="full"),
  }
  for name, value in how.items():
    assert identity(**{name: value}) == first, name
  what = {
    "mixture": "n",
    "batch_size": 16,
    "input_length": 33,
    "target_length": 17,
    "pack": False,
    "seed": 1,
    "z_loss": 0.0,
    "label_smoothing": 0.1,
    "optimizer": optimizers.OptimizerConfig("adamw"),
    "model": dataclasses.replace(MODEL, num_heads=4),
  }
  others = [identity(**{name: value}) for name, value in what.items()]
  others += [identity(vocabulary="w"), identity(data="e"), identity(lengths=(64, 40))]
  assert len({first, *others}) == len(others) + 1

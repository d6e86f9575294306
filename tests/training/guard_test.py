"""Tests of the guard: what it says, keeps, counts and forgets."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from t5tune import errors
from t5tune.training import guard
from tests.models import tiny_t5

GOOD = {"encoder/layers/mlp/wi_0/kernel": np.ones(3), "decoder/norm/scale": 1.0}


class Log:
  """Keeps what a run log is given."""

  def __init__(self):
    self.records = []

  def write(self, step, kind, values, labels=None, details=None):
    self.records.append({"step": step, "kind": kind, **values, **(details or {})})


class Watched:
  """A guard with everything around it."""

  def __init__(self, folder, state=None, **config):
    self.folder, self.log, self.told = folder, Log(), []
    decode = lambda ids: " ".join(map(str, ids))  # noqa: E731
    config = guard.GuardConfig(**config)
    self.guard = guard.Guard(config, folder, self.log, self.told.append, decode, state)
    self.batch = tiny_t5.pack([[e] for e in tiny_t5.examples([(3, 2)], seed=0)], 5, 4)

  def step(self, step, loss=2.0, finite=None, squares=None, update_norm=1.0):
    finite = math.isfinite(loss) if finite is None else finite
    values = {"loss": loss, "grad_norm": 1.0, "finite": float(finite)}
    values |= {"update_norm": update_norm, "learning_rate": 0.1}
    metrics = {k: jnp.float32(v) for k, v in values.items()}
    squares = {k: jnp.float32(v) for k, v in (squares or GOOD).items()}
    self.guard.watch(step, self.batch, {**metrics, "grad_squares": squares})


@pytest.fixture
def watched(tmp_path):
  return Watched(tmp_path)


def test_each_step_is_looked_at_once_and_the_last_when_settled(watched):
  for step in (1, 2, 3):
    watched.step(step, math.nan)
  assert [r["step"] for r in watched.log.records] == [1, 2]
  watched.guard.settle()
  watched.guard.settle()
  assert [r["step"] for r in watched.log.records] == [1, 2, 3]
  assert {r["kind"] for r in watched.log.records} == {"skipped"}


@pytest.mark.parametrize(
  "loss,squares,said",
  [
    (math.nan, GOOD, "the loss is nan"),
    (math.inf, GOOD, "the loss is inf"),
    (
      2.0,
      {**GOOD, "encoder/layers/mlp/wi_0/kernel": [1.0, math.nan, math.inf]},
      "gradients of encoder/layers_1/mlp/wi_0/kernel, encoder/layers_2/mlp/wi_0/kernel"
      " are not finite",
    ),
    (2.0, {**GOOD, "decoder/norm/scale": math.inf}, "gradients of decoder/norm/scale"),
    (2.0, {f"{i}/kernel": math.nan for i in range(9)}, "5/kernel and 3 more are not"),
  ],
  ids=["nan", "inf", "layers", "scalar", "many"],
)
def test_what_went_bad_is_said(watched, loss, squares, said):
  watched.step(7, loss, finite=False, squares=squares)
  watched.guard.settle()
  assert said in watched.told[0] and watched.told[0].startswith("step 7 was skipped: ")
  assert said in watched.log.records[0]["why"]
  assert said in (watched.folder / "bad_batches" / "7.txt").read_text()


def test_a_bad_batch_is_kept_as_it_was_and_as_text(tmp_path):
  watched = Watched(tmp_path)
  examples = tiny_t5.examples([(3, 2), (4, 3), (6, 4)], seed=1)
  watched.batch = tiny_t5.pack([examples[:2], examples[2:]], 8, 6)
  watched.batch["decoder_loss_weights"][1, 0] = 0.5
  watched.step(12, math.nan)
  watched.guard.settle()
  with np.load(tmp_path / "bad_batches" / "12.npz") as kept:
    assert {name: kept[name].tolist() for name in kept} == {
      name: x.tolist() for name, x in watched.batch.items()
    }
  text = (tmp_path / "bad_batches" / "12.txt").read_text()
  rows = [line for line in text.splitlines() if line.startswith("Row ")]
  assert [line.split(":")[0] for line in rows] == [
    "Row 0, example 1",
    "Row 0, example 2",
    "Row 1, example 1",
  ]
  assert "6 input tokens, 4 target tokens, 3.5 of them counted" in rows[2]
  for inputs, targets in examples:
    assert f"  input:  {' '.join(map(str, inputs))}\n" in text
    assert f"  target: {' '.join(map(str, targets))}\n" in text
  assert text.count("weights:") == 1 and "  weights: 0.5 1 1 1\n" in text


def test_after_too_many_in_a_row_the_run_stops(tmp_path):
  (tmp_path / "checkpoints" / "40").mkdir(parents=True)
  (tmp_path / "checkpoints" / "60.partial").mkdir()
  watched = Watched(tmp_path, max_bad_steps=3)
  for step, loss in enumerate([math.nan, math.nan, 2.0, math.nan, math.nan], start=41):
    watched.step(step, loss)
  watched.step(46, math.nan)
  with pytest.raises(errors.UserError) as e:
    watched.guard.settle()
  for part in (
    "step 46: 3 updates in a row were skipped",
    "max_bad_steps = 3",
    f"The last good checkpoint is {tmp_path}/checkpoints/40.",
    "Lower LEARNING_RATE",
    f"--gin.INIT={tmp_path}/checkpoints/40",
  ):
    assert part in str(e.value)
  assert len(list((tmp_path / "bad_batches").glob("*.txt"))) == 5


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_an_update_that_is_not_finite_ends_the_run(tmp_path, norm):
  (tmp_path / "checkpoints" / "40").mkdir(parents=True)
  watched = Watched(tmp_path)
  watched.step(41)
  watched.step(42, update_norm=norm)
  with pytest.raises(errors.UserError) as e:
    watched.guard.settle()
  said = "spoilt the weights: loss and gradients are finite, but the update is not, at"
  assert f"step 42: this update {said} a learning rate of 0.1" in str(e.value)
  assert f"The last good checkpoint is {tmp_path}/checkpoints/40." in str(e.value)
  record = watched.log.records[-1]
  assert (record["step"], record["kind"]) == (42, "spoilt")
  assert f"Step 42 {said}" in (tmp_path / "bad_batches" / "42.txt").read_text()


def test_without_a_checkpoint_it_says_so(tmp_path):
  watched = Watched(tmp_path, max_bad_steps=1)
  watched.step(1, math.nan)
  with pytest.raises(errors.UserError, match="no checkpoint yet.*initial weights"):
    watched.guard.settle()


def noisy(count: int) -> np.ndarray:
  return 2.0 + 0.1 * np.random.default_rng(0).normal(size=count)


def test_a_spike_is_flagged_once(watched):
  losses = [*noisy(60), 4.0, 4.0, *noisy(20), 5.0, *noisy(5)]
  for step, loss in enumerate(losses, start=1):
    watched.step(step, loss)
  spikes = [(r["step"], r["loss"]) for r in watched.log.records]
  assert spikes == [(61, 4.0), (83, 5.0)]
  assert watched.log.records[0]["usual_loss"] == pytest.approx(2.0, abs=0.05)
  assert "step 61: the loss jumped to 4.000 from about 2.0" in watched.told[0]
  assert f"inspect_tasks --run={watched.folder} --step=61" in watched.told[0]


@pytest.mark.parametrize(
  "losses",
  [
    np.linspace(9.0, 1.0, 300),  # falling
    [9.0, 3.0, 12.0, 2.0, 2.0],  # too early to say
    [2.0] * 50 + [2.2],  # all alike, and one a little higher
    noisy(300),
    [*noisy(60), *(3.0 + noisy(200))],  # another level is usual after a while
  ],
  ids=["falling", "early", "alike", "noisy", "level"],
)
def test_what_is_no_spike(watched, losses):
  for step, loss in enumerate(losses):
    watched.step(step, loss)
  assert len(watched.log.records) == (1 if len(losses) == 260 else 0)


@pytest.mark.parametrize("at", [1, 30, 61, 62, 70])
def test_a_resumed_run_says_the_same(tmp_path, at):
  losses = [*noisy(60), 4.0, 4.0, *noisy(5), math.nan, math.nan, *noisy(5), 6.0, 2.0]
  whole = Watched(tmp_path)
  parts = [Watched(tmp_path)]
  for step, loss in enumerate(losses, start=1):
    whole.step(step, loss)
    parts[-1].step(step, loss)
    if step == at:
      parts[-1].guard.settle()
      state = json.loads(json.dumps(parts[-1].guard.state()))
      parts.append(Watched(tmp_path, state))
  whole.guard.settle()
  parts[-1].guard.settle()
  assert len(whole.log.records) == 4
  assert repr(sum((p.log.records for p in parts), [])) == repr(whole.log.records)
  assert sum((p.told for p in parts), []) == whole.told
  assert parts[-1].guard.state() == whole.guard.state()


@pytest.mark.parametrize(
  "field,value", [("max_bad_steps", 0), ("spike_window", 5), ("spike_deviations", 0)]
)
def test_settings_that_make_no_sense(field, value):
  with pytest.raises(errors.UserError, match=f"GuardConfig.{field} = {value}"):
    guard.GuardConfig(**{field: value})

"""Tests of the update: the same however a batch is packed and cut into parts."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from t5tune.data import packing
from t5tune.training import optimizers, parameter_groups, train_state, train_step
from tests.models import tiny_t5
from tests.training import tiny_run

EXAMPLES = tiny_t5.examples(tiny_run.LENGTHS, seed=0)
# Rows wide enough for several examples, so that packed and unpacked share a shape.
UNPACKED = tiny_t5.pack([[e] for e in EXAMPLES], 20, 10)


class GradientOf:
  """The gradient of a batch, read off an update by its negative."""

  model = tiny_run.MODEL
  optimizer = tiny_run.descent(model, 1.0)
  params = tiny_t5.params(model)

  @classmethod
  @functools.cache
  def _step(cls, microbatches: int):
    return tiny_t5.jit(
      train_step.make_train_step(
        cls.model, cls.optimizer, tiny_run.Z_LOSS, microbatches
      )
    )

  def __init__(self, batch, microbatches: int = 1, at=params):
    before = train_state.fresh(self.optimizer, at)
    after, metrics = self._step(microbatches)(before, batch, jax.random.key(0))
    self.gradient = jax.tree.map(lambda a, b: a - b, at, after.params)
    self.metrics = tiny_run.scalars(metrics)
    self.squares = jax.device_get(metrics["grad_squares"])

  def assert_equals(self, other: "GradientOf"):
    assert self.metrics == pytest.approx(other.metrics, rel=1e-5)
    for (path, a), b in zip(
      jax.tree_util.tree_leaves_with_path(self.gradient),
      jax.tree.leaves(other.gradient),
      strict=True,
    ):
      name, scale = jax.tree_util.keystr(path), np.abs(a).max()
      assert scale > 1e-4, f"{name}: too small to show anything"
      np.testing.assert_allclose(b, a, atol=1e-5 * max(scale, 0.1), err_msg=name)


@pytest.fixture(scope="module")
def whole():
  return GradientOf(UNPACKED)


def test_microbatches_change_no_gradient(whole):
  whole.assert_equals(GradientOf(UNPACKED, microbatches=4))


def test_packing_changes_no_gradient(whole):
  rows = [EXAMPLES[:3], EXAMPLES[3:6], EXAMPLES[6:], *[[]] * 5]
  whole.assert_equals(GradientOf(tiny_t5.pack(rows, 20, 10)))


@pytest.mark.parametrize("seed", range(6))
def test_the_feeds_packing_changes_no_gradient_whatever_the_lengths(seed):
  rng = np.random.default_rng(seed)
  # Few rows of long examples, or many of short ones.
  lengths = np.stack(
    [rng.integers(1, most, 8) for most in ((21, 11), (8, 4))[seed % 2]]
  )
  lengths = lengths.T
  examples = tiny_t5.examples(lengths.tolist(), seed)
  examples = [tuple(np.array(side, np.int32) for side in e) for e in examples]
  plan = packing.first_fit(lengths, (20, 10))
  rows = [
    [e for e, row in zip(examples, plan, strict=True) if row == r] for r in range(8)
  ]
  assert any(len(row) > 1 for row in rows)
  alone = GradientOf(packing.to_batch([[e] for e in examples], (20, 10)))
  alone.assert_equals(GradientOf(packing.to_batch(rows, (20, 10))))


def test_metrics_are_means_over_target_tokens(whole):
  logits = tiny_t5.forward(GradientOf.model)(GradientOf.params, UNPACKED)
  logits = np.asarray(logits, np.float64)
  targets = UNPACKED["decoder_target_tokens"]
  inside = UNPACKED["decoder_loss_weights"] > 0
  log_z = np.log(np.exp(logits).sum(-1))
  chosen = np.take_along_axis(logits, targets[..., None], -1)[..., 0]
  squares = sum((x**2).sum() for x in jax.tree.leaves(whole.gradient))
  expected = {
    "loss": (log_z - chosen)[inside].mean(),
    "z_loss": tiny_run.Z_LOSS * (log_z**2)[inside].mean(),
    "accuracy": (logits.argmax(-1) == targets)[inside].mean(),
    "grad_norm": np.sqrt(squares),
    "update_norm": np.sqrt(squares),
    "learning_rate": 1.0,
    "target_tokens": sum(t for _, t in tiny_run.LENGTHS),
    "finite": 1.0,
  }
  assert whole.metrics == pytest.approx(expected, rel=1e-4)


def test_squares_of_gradients_are_told_by_parameter_and_layer(whole):
  flat = parameter_groups.flatten(whole.gradient)
  assert whole.squares.keys() == flat.keys()
  for name, gradient in flat.items():
    each = gradient if "layers" in name else gradient[None]
    expected = [np.sum(np.square(x)) for x in each]
    found = np.reshape(whole.squares[name], -1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, err_msg=name)


def test_the_gradient_is_that_of_loss_and_z_loss(whole):
  def total(rate):
    at = jax.tree.map(lambda p, g: p + rate * g, GradientOf.params, whole.gradient)
    metrics = GradientOf(UNPACKED, at=at).metrics
    return metrics["loss"] + metrics["z_loss"]

  slope = (total(1e-3) - total(-1e-3)) / 2e-3
  assert slope == pytest.approx(whole.metrics["grad_norm"] ** 2, rel=5e-3)


def test_a_batch_without_targets_moves_nothing():
  empty = GradientOf(tiny_t5.pack([[]] * 8, 20, 10))
  still = {k: 0.0 for k in empty.metrics} | {"finite": 1.0, "learning_rate": 1.0}
  assert empty.metrics == still
  assert not any(x.any() for x in jax.tree.leaves(empty.gradient))


def test_dropout_is_drawn_anew_at_every_step():
  config = dataclasses.replace(
    tiny_t5.CONFIG, dropout_rate=0.1, num_encoder_layers=1, num_decoder_layers=1
  )
  model = train_state.Model(config)
  optimizer = tiny_run.descent(model, 0.0)
  params = tiny_t5.params(model)
  update = tiny_t5.jit(train_step.make_train_step(model, optimizer))

  def loss(step: int, seed: int = 0) -> float:
    # The same weights and batch every time.
    state = train_state.TrainState(np.int32(step), params, optimizer.init(params))
    return float(update(state, UNPACKED, jax.random.key(seed))[1]["loss"])

  assert loss(0) == loss(0)
  assert len({loss(0), loss(1), loss(2), loss(0, seed=1)}) == 4


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
def test_a_step_that_is_not_finite_changes_the_step_alone(name):
  model = train_state.Model(
    dataclasses.replace(tiny_run.CONFIG, num_encoder_layers=1, num_decoder_layers=1)
  )
  config = dataclasses.replace(
    tiny_run.OPTIMIZERS[name], ema_decay=0.9, freeze=["token_embedder/.*"]
  )
  optimizer = optimizers.make_optimizer(config, model.param_specs(), 10)
  update = tiny_t5.jit(train_step.make_train_step(model, optimizer, tiny_run.Z_LOSS))
  weights = UNPACKED["decoder_loss_weights"] * np.float32(np.nan)
  bad = {**UNPACKED, "decoder_loss_weights": weights}
  state = first = train_state.fresh(optimizer, tiny_t5.params(model))
  finite = []
  for step, batch in enumerate([UNPACKED, bad, bad, UNPACKED, UNPACKED]):
    before = jax.device_get(state)
    state, metrics = update(state, batch, jax.random.key(0))
    assert int(state.step) == step + 1
    finite.append(float(metrics["finite"]))
    changed = {
      jax.tree_util.keystr(path)
      for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(state), strict=True
      )
      if np.asarray(a).tobytes() != np.asarray(b).tobytes()
    }
    if finite[-1]:
      parts = {path.split("[")[0] for path in changed}
      assert parts == {".step", ".params", ".opt_state", ".average"}
    else:
      assert changed == {".step"}
      squares = metrics["grad_squares"]
      assert all(not np.isfinite(x).any() for x in jax.device_get(squares).values())
  assert finite == [1, 0, 0, 1, 1]
  frozen = lambda state: state.params["token_embedder"]["embedding"]  # noqa: E731
  np.testing.assert_array_equal(frozen(state), frozen(first))
  assert "token_embedder" not in state.average

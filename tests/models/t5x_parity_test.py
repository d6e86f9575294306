"""Parity with T5X: parameter names, logits, losses, gradients and greedy ids.

Skipped where the recorded checkpoint is absent.
"""

import types

import jax
import numpy as np
import pytest

from t5tune.models import decoding
from t5tune.training import losses, train_state
from t5tune.weights import t5x as t5x_weights
from tests.models import recorded, tiny_t5

Z_LOSS = 1e-4  # the coefficient of the record


@pytest.fixture(scope="module")
def t5x():
  folder = recorded.fixture("t5x_tiny_a")
  opened = t5x_weights.open_checkpoint(str(folder / "checkpoint_10"))
  return types.SimpleNamespace(
    model=train_state.Model(opened.config),
    flat=dict(np.load(folder / "params.npz")),
    params=opened.nested(lambda name, value: value),
    expected=np.load(folder / "reference.npz"),
  )


def batch(t5x, prefix: str):
  """Returns a recorded batch; unpacked ones have no segment ids on record."""
  names = ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens")
  found = {name: t5x.expected[prefix + name] for name in names}
  for stack, tokens in (("encoder", "input"), ("decoder", "target")):
    found[f"{stack}_segment_ids"] = (
      t5x.expected[f"{prefix}{stack}_segment_ids"]
      if prefix
      else (found[f"{stack}_{tokens}_tokens"] > 0).astype(np.int32)
    )
  weights = t5x.expected[prefix + "decoder_loss_weights"].astype(np.float32)
  return {**found, "decoder_loss_weights": weights}


def test_names_and_shapes(t5x):
  ours = recorded.unstack(tiny_t5.params(t5x.model))
  assert {k: v.shape for k, v in ours.items()} == {
    k: v.shape for k, v in t5x.flat.items()
  }


@pytest.mark.parametrize("prefix", ["", "packed_"])
def test_logits_and_token_losses(t5x, prefix):
  data, expected = batch(t5x, prefix), t5x.expected
  logits = tiny_t5.forward(t5x.model)(t5x.params, data)
  inside = data["decoder_loss_weights"] > 0
  wanted = expected[f"{prefix}logits"][inside]
  scale = np.abs(wanted).max()
  np.testing.assert_allclose(logits[inside], wanted, rtol=0, atol=2e-5 * scale)
  targets, weights = data["decoder_target_tokens"], data["decoder_loss_weights"]
  nll, z_loss = losses.token_losses(logits, targets, Z_LOSS)
  # T5X reports its losses with the z-loss added.
  for found, name in (
    (nll, "loss_per_token_noz"),
    (nll + z_loss, "loss_per_token"),
    (z_loss, "z_loss_per_token"),
  ):
    found = np.asarray(found)[inside]
    wanted = expected[prefix + name][inside]
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * scale)
  sums = losses.loss_sums(logits, targets, weights, Z_LOSS)
  total = float(expected[f"{prefix}loss_fn"])
  assert float(sums.nll + sums.z_loss) == pytest.approx(total, rel=1e-5)
  without = float(expected[f"{prefix}loss_fn_noz"])
  assert float(sums.nll) == pytest.approx(without, rel=1e-5)
  share = float(sums.correct / sums.tokens)
  assert share == pytest.approx(float(expected[f"{prefix}accuracy"]), abs=1e-6)


def test_gradients(t5x):
  data = batch(t5x, "")

  def loss(params):
    logits = tiny_t5.logits(t5x.model, params, data)
    targets, weights = data["decoder_target_tokens"], data["decoder_loss_weights"]
    sums = losses.loss_sums(logits, targets, weights, Z_LOSS)
    return sums.nll + sums.z_loss

  found = recorded.unstack(tiny_t5.jit(jax.grad(loss))(t5x.params))
  for name, value in found.items():
    expected = t5x.expected[f"grad/{name}"]
    scale = np.abs(expected).max()  # a sum over tokens, so larger than a mean's
    np.testing.assert_allclose(value, expected, atol=1e-4 * scale, err_msg=name)


def test_greedy_ids(t5x):
  data, expected = batch(t5x, ""), t5x.expected["greedy_temperature0_decodes"]
  greedy = tiny_t5.jit(
    lambda p, *x: decoding.greedy(
      *tiny_t5.encoded(t5x.model.merge(p), *x), expected.shape[1]
    )
  )
  inputs = data["encoder_input_tokens"], data["encoder_segment_ids"]
  np.testing.assert_array_equal(greedy(t5x.params, *inputs), expected)

"""Tests of the losses against numpy in float64."""

import jax
import numpy as np
import pytest

from t5tune.training import losses

B, T, V = 3, 4, 11


@pytest.fixture
def batch():
  rng = np.random.default_rng(0)
  logits = 3 * rng.normal(size=(B, T, V)).astype(np.float32)
  targets = rng.integers(0, V, (B, T)).astype(np.int32)
  targets[0] = logits[0].argmax(-1)  # some are right
  weights = (rng.random((B, T)) < 0.6).astype(np.float32)
  weights[0, 0] = 1
  return logits, targets, weights


def reference(logits, targets):
  """Negative log likelihood and squared log normaliser of each token."""
  log_z = np.log(np.exp(logits.astype(np.float64)).sum(-1))
  return log_z - np.take_along_axis(logits, targets[..., None], -1)[..., 0], log_z**2


def test_token_losses(batch):
  logits, targets, _ = batch
  nll, z_loss = losses.token_losses(logits, targets, 0.01)
  expected, squared = reference(logits, targets)
  np.testing.assert_allclose(nll, expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(z_loss, 0.01 * squared, rtol=1e-5)


def test_sums_count_only_weighted_tokens(batch):
  logits, targets, weights = batch
  sums = losses.loss_sums(logits, targets, weights, 0.01)
  nll, squared = reference(logits, targets)
  inside = weights > 0
  assert float(sums.nll) == pytest.approx(nll[inside].sum(), rel=1e-5)
  assert float(sums.z_loss) == pytest.approx(0.01 * squared[inside].sum(), rel=1e-5)
  assert sums.correct == (logits.argmax(-1) == targets)[inside].sum() > 0
  assert sums.tokens == inside.sum() < inside.size
  assert not losses.loss_sums(logits, targets, weights).z_loss


def test_sums_of_parts_add_up(batch):
  whole = losses.loss_sums(*batch, 0.01)
  parts = [losses.loss_sums(*(x[b : b + 1] for x in batch), 0.01) for b in range(B)]
  total = jax.tree.map(lambda *x: sum(x), *parts)
  for a, b in zip(jax.tree.leaves(total), jax.tree.leaves(whole), strict=True):
    assert float(a) == pytest.approx(float(b), rel=1e-6)


def test_large_logits_stay_finite(batch):
  logits, targets, weights = batch
  loss = lambda x: losses.loss_sums(x, targets, weights).nll  # noqa: E731
  value, gradient = jax.value_and_grad(loss)(1e4 * logits)
  assert np.isfinite(value) and np.all(np.isfinite(gradient))


def test_gradient_is_softmax_minus_target(batch):
  logits, targets, weights = batch
  loss = lambda x: losses.loss_sums(x, targets, weights).nll  # noqa: E731
  softmax = np.exp(logits.astype(np.float64))
  softmax /= softmax.sum(-1, keepdims=True)
  expected = (softmax - np.eye(V)[targets]) * weights[..., None]
  np.testing.assert_allclose(jax.grad(loss)(logits), expected, atol=1e-6)


@pytest.mark.parametrize("label_smoothing", [0.1, 0.5])
def test_label_smoothing_by_hand(batch, label_smoothing):
  logits, targets, weights = (np.asarray(x) for x in batch)
  log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
  target = np.full(logits.shape, label_smoothing / logits.shape[-1])
  chosen = np.arange(logits.shape[-1]) == targets[..., None]
  target[chosen] += 1 - label_smoothing
  wanted = (-(target * log_p).sum(axis=-1) * weights).sum()
  sums = losses.loss_sums(*batch, 0.0, label_smoothing)
  assert float(sums.objective) == pytest.approx(wanted, rel=1e-5)
  plain = losses.loss_sums(*batch)
  assert float(sums.nll) == float(plain.nll) == float(plain.objective)

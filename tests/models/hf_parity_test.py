"""Parity with Hugging Face: what it computed from recorded checkpoints, we compute.

Skipped where the recorded checkpoints are absent.
"""

import jax
import numpy as np
import optax
import pytest

from t5tune.models import decoding, logit_rules
from t5tune.training import losses, optimizers, train_state
from t5tune.weights import huggingface, names
from tests.models import recorded, tiny_t5

CHECKPOINTS = ("hf_tiny_a", "hf_tiny_tied", "hf_tiny_sharded")
BATCHES = ("", "long_")  # the long one reaches the last bucket of both stacks


class Recorded:
  """A checkpoint with what Hugging Face computed from it."""

  def __init__(self, name: str):
    path = recorded.fixture(name)
    opened = huggingface.open_directory(path)
    self.model = train_state.Model(opened.config)
    self.params = opened.nested(lambda name, value: value)
    self.expected = np.load(f"{path}.npz")
    gradients = np.load(f"{path}.grads.npz")
    self.gradients = {}
    for name in names.shapes(opened.config):
      theirs, transposed = names.hugging_face(name)
      self.gradients[name] = gradients[theirs].T if transposed else gradients[theirs]

  def batch(self, prefix: str = ""):
    """Returns a recorded batch, from Hugging Face's masks and labels."""
    labels = self.expected[f"{prefix}labels"]
    return {
      "encoder_input_tokens": self.expected[f"{prefix}input_ids"],
      "encoder_segment_ids": self.expected[f"{prefix}attention_mask"],
      "decoder_input_tokens": self.expected[f"{prefix}decoder_input_ids"],
      "decoder_target_tokens": np.maximum(labels, 0),
      "decoder_segment_ids": (labels != -100).astype(np.int32),
      "decoder_loss_weights": (labels != -100).astype(np.float32),
    }

  def loss(self, params, batch, label_smoothing: float = 0.0):
    """Returns the mean loss and the logits."""
    logits = tiny_t5.logits(self.model, params, batch)
    targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
    sums = losses.loss_sums(logits, targets, weights, 0.0, label_smoothing)
    return sums.objective / sums.tokens, logits


@pytest.fixture(scope="module", params=CHECKPOINTS)
def checkpoint(request):
  return Recorded(request.param)


def assert_close(found, wanted, relative: float, name: str = "") -> None:
  """Compares arrays within a share of the largest value wanted."""
  scale = np.abs(wanted).max()
  np.testing.assert_allclose(found, wanted, rtol=0, atol=relative * scale, err_msg=name)


@pytest.mark.parametrize("prefix", BATCHES)
def test_logits_and_losses(checkpoint, prefix):
  batch, expected = checkpoint.batch(prefix), checkpoint.expected
  loss, logits = tiny_t5.jit(checkpoint.loss)(checkpoint.params, batch)
  inside = batch["decoder_loss_weights"] > 0
  assert_close(logits[inside], expected[f"{prefix}logits"][inside], 2e-5)
  assert float(loss) == pytest.approx(float(expected[f"{prefix}loss"]), rel=2e-5)
  nll, _ = losses.token_losses(logits, batch["decoder_target_tokens"])
  wanted = expected[f"{prefix}token_logprobs"]
  assert_close(-np.asarray(nll)[inside], wanted[inside], 2e-5)
  rows = np.asarray(nll * inside).sum(axis=1) / inside.sum(axis=1)
  assert_close(rows, expected[f"{prefix}loss_per_row"], 2e-5)


@pytest.mark.parametrize("prefix", BATCHES)
def test_encoder_output(checkpoint, prefix):
  batch = checkpoint.batch(prefix)
  encode = tiny_t5.jit(lambda p, *x: checkpoint.model.merge(p).encode(*x))
  segments = batch["encoder_segment_ids"]
  encoded = encode(checkpoint.params, batch["encoder_input_tokens"], segments)
  expected = checkpoint.expected[f"{prefix}encoder_last_hidden_state"]
  assert_close(encoded[segments > 0], expected[segments > 0], 2e-5)


def test_label_smoothed_loss(checkpoint):
  loss, _ = checkpoint.loss(checkpoint.params, checkpoint.batch(), 0.1)
  expected = float(checkpoint.expected["loss_label_smoothing_0.1"])
  assert float(loss) == pytest.approx(expected, rel=2e-5)


def test_gradients(checkpoint):
  gradient = tiny_t5.jit(jax.grad(checkpoint.loss, has_aux=True))
  nested, _ = gradient(checkpoint.params, checkpoint.batch())
  found = recorded.unstack(nested)
  assert found.keys() == checkpoint.gradients.keys()
  for name, value in checkpoint.gradients.items():
    assert np.abs(value).max() > 1e-3, f"{name}: too small to show anything"
    assert_close(found[name], value, 1e-4, name)


# The optimisers of Hugging Face's record, and how far float32 strays by the seventh step:
# Adafactor's last loss moves by up to 4.8e-3 when the parameters do by one rounding.
DECAY = {"weight_decay": 0.01, "no_weight_decay": ()}  # of norm scales, too
ADAFACTOR = {"name": "adafactor", "learning_rate": 1e-2, "min_dim_size_to_factor": 1}
CURVES = {
  "adafactor": ({**ADAFACTOR, "parameter_scale": False}, 6e-3),
  "adafactor_scaled": (ADAFACTOR, 6e-3),
  "adamw": ({"name": "adamw", "learning_rate": 3e-3, **DECAY}, 3e-5),
}


@pytest.mark.parametrize("curve", CURVES)
def test_seven_steps_of_training(checkpoint, curve):
  settings, noise = CURVES[curve]
  config = optimizers.OptimizerConfig(**settings)
  optimizer = optimizers.make_optimizer(config, checkpoint.params, 7)
  batch = checkpoint.batch()

  @tiny_t5.jit
  def step(params, state, count):
    (loss, _), gradients = jax.value_and_grad(checkpoint.loss, has_aux=True)(
      params, batch
    )
    updates, state = optimizer.update(gradients, state, params, count)
    return optax.apply_updates(params, updates), state, loss

  params, state, found = checkpoint.params, optimizer.init(checkpoint.params), []
  for count in range(7):
    params, state, loss = step(params, state, count)
    found.append(float(loss))
  expected = checkpoint.expected[f"train_{curve}_losses"]
  assert expected[0] - expected[-1] > 0.1
  np.testing.assert_allclose(found[:3], expected[:3], rtol=1e-5)
  np.testing.assert_allclose(found, expected, rtol=noise)


@pytest.mark.parametrize("name,min_length", [("", 0), ("_min12_max12", 12)])
def test_greedy_ids(checkpoint, name, min_length):
  expected = checkpoint.expected[f"gen_greedy{name}"][:, 1:]  # without the start token
  assert expected.shape[1] >= 12
  batch = checkpoint.batch()
  rules = logit_rules.LogitRules(min_length)
  greedy = tiny_t5.jit(
    lambda p, *x: decoding.greedy(
      *tiny_t5.encoded(checkpoint.model.merge(p), *x), expected.shape[1], rules
    )
  )
  inputs = batch["encoder_input_tokens"], batch["encoder_segment_ids"]
  np.testing.assert_array_equal(greedy(checkpoint.params, *inputs), expected)

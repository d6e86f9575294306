"""Parity with Hugging Face: logits, loss, gradients and greedy ids on record.

Skipped where the recorded checkpoints are absent.
"""

import dataclasses

import jax
import numpy as np
import pytest

from t5tune.models import decoding
from t5tune.training import losses, train_state
from tests.models import recorded, tiny_t5

T5_1_0 = dataclasses.replace(
  recorded.CONFIG, mlp_activations=("relu",), logits_via_embedding=True
)
CONFIGS = {"hf_tiny_a": recorded.CONFIG, "hf_tiny_tied": T5_1_0}


class Recorded:
  """A checkpoint with what Hugging Face computed from it."""

  def __init__(self, name: str):
    self.model = train_state.Model(CONFIGS[name])
    path = recorded.fixture(name)
    self.expected = np.load(f"{path}.npz")
    self.gradients = np.load(f"{path}.grads.npz")
    tensors = recorded.read_safetensors(path / "model.safetensors")
    self.names = recorded.unstack(tiny_t5.params(self.model)).keys()
    assert {recorded.hf_name(n)[0] for n in self.names} == tensors.keys()
    self.params = recorded.stack(self.to_t5x(tensors))

  def to_t5x(self, tensors) -> dict[str, np.ndarray]:
    """Returns tensors of Hugging Face's names under T5X's."""
    table = {n: recorded.hf_name(n) for n in self.names}
    return {n: tensors[hf].T if t else tensors[hf] for n, (hf, t) in table.items()}

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

  def loss(self, params, batch):
    """Returns the mean loss and the logits."""
    logits = tiny_t5.logits(self.model, params, batch)
    targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
    sums = losses.loss_sums(logits, targets, weights)
    return sums.nll / sums.tokens, logits


@pytest.fixture(scope="module", params=CONFIGS)
def checkpoint(request):
  return Recorded(request.param)


# The long batch reaches the last bucket of the relative positions in both stacks.
@pytest.mark.parametrize("prefix", ["", "long_"])
def test_logits_and_loss(checkpoint, prefix):
  batch = checkpoint.batch(prefix)
  loss, logits = tiny_t5.jit(checkpoint.loss)(checkpoint.params, batch)
  inside = batch["decoder_loss_weights"] > 0
  expected = checkpoint.expected[f"{prefix}logits"]
  np.testing.assert_allclose(logits[inside], expected[inside], atol=1e-4)
  assert float(loss) == pytest.approx(float(checkpoint.expected[f"{prefix}loss"]), 1e-5)


def test_encoder_output(checkpoint):
  batch = checkpoint.batch()
  encode = tiny_t5.jit(lambda p, *x: checkpoint.model.merge(p).encode(*x))
  segments = batch["encoder_segment_ids"]
  encoded = encode(checkpoint.params, batch["encoder_input_tokens"], segments)
  expected = checkpoint.expected["encoder_last_hidden_state"]
  np.testing.assert_allclose(encoded[segments > 0], expected[segments > 0], atol=1e-4)


def test_gradients(checkpoint):
  gradient = tiny_t5.jit(jax.grad(checkpoint.loss, has_aux=True))
  nested, _ = gradient(checkpoint.params, checkpoint.batch())
  found = recorded.unstack(nested)
  expected = checkpoint.to_t5x(checkpoint.gradients)
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, atol=1e-4, err_msg=name)
    assert np.abs(value).max() > 1e-3, f"{name}: too small to show anything"


def test_greedy_ids(checkpoint):
  expected = checkpoint.expected["gen_greedy"][:, 1:]  # without the start token
  batch = checkpoint.batch()
  greedy = tiny_t5.jit(
    lambda p, *x: decoding.greedy(checkpoint.model.merge(p), *x, expected.shape[1])
  )
  inputs = batch["encoder_input_tokens"], batch["encoder_segment_ids"]
  np.testing.assert_array_equal(greedy(checkpoint.params, *inputs), expected)

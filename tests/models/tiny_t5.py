"""A T5 small enough for tests, parameters without compiling, and batches."""

import functools

import jax
import numpy as np

from t5tune.models import t5
from t5tune.training import train_state

VOCAB = 128
CONFIG = t5.T5Config(
  emb_dim=32,
  num_heads=4,
  head_dim=8,
  mlp_dim=64,
  num_encoder_layers=2,
  num_decoder_layers=2,
  vocab_size=VOCAB,
  dropout_rate=0.0,
)

# An example is a pair (input tokens, target tokens); a row packs one or several.
Example = tuple[list[int], list[int]]


def params(model: train_state.Model, seed: int = 0):
  """Returns random parameters in which every term matters, norm scales included."""
  rng = np.random.default_rng(seed)

  def draw(spec):
    x = rng.normal(size=spec.shape).astype(np.float32)
    if spec.axes[-1] == "embed" and len(spec.axes) - ("layers" in spec.axes) == 1:
      return 1 + 0.25 * x  # a norm's scale
    if spec.axes[0] in ("vocab", "heads"):  # embedding, relative position bias
      return x
    return x / np.float32(np.sqrt(spec.shape[-2]))

  return jax.tree.map(draw, model.param_specs())


def examples(lengths: list[tuple[int, int]], seed: int = 0) -> list[Example]:
  """Returns random examples of these input and target lengths, ending in EOS."""
  rng = np.random.default_rng(seed)
  tokens = lambda n: [*rng.integers(2, VOCAB, n - 1).tolist(), 1]  # noqa: E731
  return [(tokens(s), tokens(t)) for s, t in lengths]


def pack(rows: list[list[Example]], input_length: int, target_length: int):
  """Returns the batch whose rows hold these examples, padded at the end."""
  batch = {}
  shapes = {"encoder": input_length, "decoder": target_length}
  for stack, length in shapes.items():
    batch[f"{stack}_segment_ids"] = np.zeros((len(rows), length), np.int32)
  batch["encoder_input_tokens"] = np.zeros((len(rows), input_length), np.int32)
  batch["decoder_input_tokens"] = np.zeros((len(rows), target_length), np.int32)
  batch["decoder_target_tokens"] = np.zeros((len(rows), target_length), np.int32)
  for r, row in enumerate(rows):
    s = t = 0
    for i, (inputs, targets) in enumerate(row):
      inside, outside = slice(s, s + len(inputs)), slice(t, t + len(targets))
      batch["encoder_input_tokens"][r, inside] = inputs
      batch["encoder_segment_ids"][r, inside] = i + 1
      batch["decoder_target_tokens"][r, outside] = targets
      batch["decoder_input_tokens"][r, outside] = [0, *targets[:-1]]
      batch["decoder_segment_ids"][r, outside] = i + 1
      s, t = inside.stop, outside.stop
  weights = batch["decoder_segment_ids"] > 0
  return {**batch, "decoder_loss_weights": weights.astype(np.float32)}


def logits(model: train_state.Model, params, batch, dropout_key=None) -> jax.Array:
  """Returns the logits (b, t, v) of a batch."""
  return model.merge(params)(
    batch["encoder_input_tokens"],
    batch["decoder_input_tokens"],
    batch["encoder_segment_ids"],
    batch["decoder_segment_ids"],
    dropout_key,
  )


def jit(function):
  """Compiles a function of arrays, quickly rather than well."""
  return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def forward(model: train_state.Model):
  """Returns the compiled `logits` of a model."""
  return jit(functools.partial(logits, model))


def encoded(module: t5.T5, tokens, segment_ids, *rest) -> tuple:
  """Returns what decoding takes: the model, its encoding of tokens, and the rest."""
  return module, module.encode(tokens, segment_ids), segment_ids, *rest

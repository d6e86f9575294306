"""Encoding where no gradient is asked for, as evaluation and generation do.

Stands between the tokens of the inputs and their decoding.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from t5tune import partitioning
from t5tune.models import attention, few_rows, stacks, t5

# Rows that one CPU device encodes together: what is made of more would not stay in its
# cache.
_ROWS_OF_A_CPU = 4


def encode(model: t5.T5, tokens: jax.Array, segment_ids: jax.Array) -> jax.Array:
  """Encodes as `model.encode` does, without dropout.

  Args:
    model: the model.
    tokens: int32 (b, s).
    segment_ids: int32 (b, s).

  Returns:
    (b, s, d) in the model's dtype.
  """
  rows, length = tokens.shape
  if rows % _ROWS_OF_A_CPU or not partitioning.on_one_cpu_device():
    return model.encode(tokens, segment_ids)
  own = few_rows.usable(model.config.jax_dtype)
  encode_part = _by_few_rows(model) if own else model.encode
  parts = [x.reshape(-1, _ROWS_OF_A_CPU, length) for x in (tokens, segment_ids)]
  encoded = jax.lax.map(lambda part: encode_part(*part), parts)
  return encoded.reshape(rows, length, -1)


def _by_few_rows(model: t5.T5) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """Returns an encoder that attends by `few_rows`: no scores are ever in memory."""
  encoder = model.encoder
  # The layers are taken out of their stack once, and not for each part of the rows.
  graphdefs, params = zip(*map(nnx.split, stacks.unstack(encoder.layers)), strict=True)
  params = jax.lax.optimization_barrier(params)

  def encode_part(tokens, segment_ids):
    positions = jnp.arange(tokens.shape[1])
    bias = encoder.relpos_bias(positions, positions)
    mask = attention.segment_mask(segment_ids, segment_ids)
    bias = jax.lax.optimization_barrier(attention.masked(bias, mask))
    x = model.token_embedder(tokens)
    for graphdef, layer in zip(graphdefs, params, strict=True):
      x = nnx.merge(graphdef, layer).infer(x, bias)
    return encoder.encoder_norm(x)

  return encode_part

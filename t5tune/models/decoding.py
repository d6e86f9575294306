"""Greedy decoding with a key-value cache."""

import jax
import jax.numpy as jnp

from t5tune.models import logit_rules, t5

PAD_ID = 0  # also the decoder's first token
EOS_ID = logit_rules.EOS_ID


def greedy(
  model: t5.T5,
  encoded: jax.Array,
  encoder_segment_ids: jax.Array,
  max_length: int,
  rules: logit_rules.LogitRules = logit_rules.NONE,
) -> jax.Array:
  """Decodes the most likely token at every step.

  Cross-attention keys and values are computed once; the loop ends when every row
  has ended.

  Args:
    model: the model.
    encoded: (b, s, d), from `model.encode`.
    encoder_segment_ids: int32 (b, s), 1 at tokens and 0 at padding. A row without
      tokens (batch padding) counts as ended from the start.
    max_length: most tokens to decode, the end of sequence included.
    rules: tokens that may not come next.

  Returns:
    int32 (b, max_length): tokens up to and including the end of sequence, then 0.
    A row without an end of sequence met `max_length`.
  """
  batch = encoded.shape[0]
  decode_position, cache = model.start_decoding(
    encoded, encoder_segment_ids, max_length
  )

  def running(state):
    position, _, _, _, ended = state
    return (position < max_length) & ~jnp.all(ended)

  def step(state):
    position, tokens, outputs, cache, ended = state
    logits, cache = decode_position(tokens[:, None], position, cache)
    logits = rules(logits[:, 0], outputs, position)
    tokens = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    tokens = jnp.where(ended, PAD_ID, tokens)
    outputs = jax.lax.dynamic_update_slice(outputs, tokens[:, None], (0, position))
    return position + 1, tokens, outputs, cache, ended | (tokens == EOS_ID)

  start = (
    jnp.zeros((), jnp.int32),
    jnp.full((batch,), PAD_ID, jnp.int32),
    jnp.full((batch, max_length), PAD_ID, jnp.int32),
    cache,
    jnp.all(encoder_segment_ids == 0, axis=1),
  )
  return jax.lax.while_loop(running, step, start)[2]

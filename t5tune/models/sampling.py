"""Sampling with a key-value cache: temperature, top-k and top-p.

Stands where greedy decoding does: encoder tokens -> model -> predictions. Top-p is the
nucleus of Holtzman et al. 2020, https://arxiv.org/abs/1904.09751.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from t5tune import errors
from t5tune.models import decoding, largest, logit_rules, t5


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
  """How to draw tokens, in the order in which it is applied, as Hugging Face does.

  Attributes:
    temperature: logits are divided by it; below 1 likely tokens become likelier.
    top_k: draw among the k likeliest; 0 for all.
    top_p: draw among the likeliest that together have at least this probability.
    num_samples: n, sequences drawn for a row.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  num_samples: int = 1

  def __post_init__(self):
    checks = {
      "temperature": (
        1e-4 <= self.temperature < math.inf,
        "finite and at least 1e-4; without sampling, decoding is greedy",
      ),
      "top_k": (type(self.top_k) is int and self.top_k >= 0, "an integer, 0 for all"),
      "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
      "num_samples": (
        type(self.num_samples) is int and self.num_samples >= 1,
        "an integer, at least 1",
      ),
    }
    for name, (is_right, wanted) in checks.items():
      if not is_right:
        raise errors.UserError(
          f"sampling.SamplingConfig.{name} = {getattr(self, name)!r}: it must be {wanted}."
        )

  def filter(self, logits: jax.Array) -> jax.Array:
    """Returns the logits to draw from: -inf at tokens that cannot be drawn.

    Args:
      logits: float32 (b, v).
    """
    logits = logits / self.temperature
    if 0 < self.top_k < logits.shape[-1]:
      least = largest.top_k(logits, self.top_k)[0][:, -1:]
      logits = jnp.where(logits < least, -jnp.inf, logits)
    if self.top_p < 1:
      falling = jnp.sort(logits, axis=-1, descending=True)
      shares = jax.nn.softmax(falling)
      # One more belongs to the nucleus while those before it have too little.
      inside = jnp.cumsum(shares, axis=-1) - shares < self.top_p
      least = jnp.min(jnp.where(inside, falling, jnp.inf), axis=-1, keepdims=True)
      logits = jnp.where(logits < least, -jnp.inf, logits)
    return logits


class _State(NamedTuple):
  """Where sampling stands.

  Attributes:
    position: int32 scalar, tokens drawn so far.
    keys: PRNG keys (b, n).
    tokens: int32 (b, n), the last tokens.
    outputs: int32 (b, n, t), all of them, 0 from `position` on.
    scores: float32 (b, n), their log-probabilities.
    ended: bool (b, n), sequences that have ended.
    done: bool (b,), rows all of whose sequences have.
    cache: the decoder's.
  """

  position: jax.Array
  keys: jax.Array
  tokens: jax.Array
  outputs: jax.Array
  scores: jax.Array
  ended: jax.Array
  done: jax.Array
  cache: Any


def sample(
  model: t5.T5,
  encoded: jax.Array,
  encoder_segment_ids: jax.Array,
  row_keys: jax.Array,
  max_length: int,
  config: SamplingConfig,
  rules: logit_rules.LogitRules = logit_rules.NONE,
) -> tuple[jax.Array, jax.Array]:
  """Draws sequences.

  What is drawn for a row depends on its key, and on neither the
  other rows nor the order.

  Args:
    model: the model.
    encoded: (b, s, d), from `model.encode`.
    encoder_segment_ids: int32 (b, s), 1 at tokens and 0 at padding. A row without
      tokens (batch padding) counts as ended from the start.
    row_keys: PRNG keys (b,).
    max_length: t, most tokens to decode, the end of sequence included.
    config: how to draw.
    rules: tokens that may not come next.

  Returns:
    int32 (b, n, t): the sequences of each row, the likeliest first: tokens up to and
    including the end of sequence, then 0. One without an end of sequence met
    `max_length`.
    float32 (b, n): their log-probabilities under the model itself, at temperature 1 and
    with nothing left out.
  """
  batch, count = encoded.shape[0], config.num_samples
  decode_position, cache = model.start_decoding(
    encoded, encoder_segment_ids, max_length, count
  )

  def step(state):
    position, keys, tokens, outputs, scores, ended, _, cache = state
    logits, cache = decode_position(tokens, position, cache)
    logits = logits.reshape(keys.size, -1)
    so_far = outputs.reshape(keys.size, max_length)
    allowed = config.filter(rules(logits, so_far, position))
    here = jax.vmap(lambda key: jax.random.fold_in(key, position))(keys.reshape(-1))
    drawn = jax.vmap(jax.random.categorical)(here, allowed).astype(jnp.int32)
    tokens = jnp.where(ended, decoding.PAD_ID, drawn.reshape(keys.shape))
    taken = jax.nn.log_softmax(logits)[jnp.arange(keys.size), tokens.reshape(-1)]
    scores += jnp.where(ended, 0.0, taken.reshape(keys.shape))
    start = (0, 0, position)
    outputs = jax.lax.dynamic_update_slice(outputs, tokens[:, :, None], start)
    ended |= tokens == decoding.EOS_ID
    done = jnp.all(ended, axis=1)
    return _State(position + 1, keys, tokens, outputs, scores, ended, done, cache)

  shape, padding = (batch, count), jnp.all(encoder_segment_ids == 0, axis=1)
  start = _State(
    position=jnp.zeros((), jnp.int32),
    keys=jax.vmap(lambda key: jax.random.split(key, count))(row_keys),
    tokens=jnp.full(shape, decoding.PAD_ID, jnp.int32),
    outputs=jnp.full((*shape, max_length), decoding.PAD_ID, jnp.int32),
    scores=jnp.zeros(shape),
    ended=jnp.broadcast_to(padding[:, None], shape),
    done=padding,
    cache=cache,
  )
  end = decoding.run_rows(step, start, max_length)
  scores, order = jax.lax.top_k(end.scores, count)
  return jnp.take_along_axis(end.outputs, order[:, :, None], axis=1), scores

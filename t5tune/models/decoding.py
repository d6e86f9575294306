"""Greedy decoding with a key-value cache, and the loop that all decoding runs in."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from t5tune import partitioning
from t5tune.models import largest, logit_rules, t5

PAD_ID = 0  # also the decoder's first token
EOS_ID = logit_rules.EOS_ID

S = TypeVar("S", bound=NamedTuple)


def run_rows(step: Callable[[S], S], state: S, max_length: int) -> S:
  """Runs a decoding step until all rows are done.

  On one CPU device a step takes the longer the more rows it has. There, rows that are
  done are left out when they are half of all, and again when they are three quarters:
  three loops to compile in place of one.

  Args:
    step: decodes one position; what it does for a row depends on no other row.
    state: where to begin. Its `position` is an int32 scalar; its other leaves are
      (b, ...), of which `done`, bool (b,), says which rows need no more steps.
    max_length: where to end at the latest.

  Returns:
    The state of the rows as each was when it was left out, or at the end.
  """
  sizes = [len(state.done)]
  if partitioning.on_one_cpu_device():
    sizes += [n for n in (sizes[0] // 2, sizes[0] // 4) if n]
  wholes = []
  for next_size in [*sizes[1:], 0]:

    def running(state, next_size=next_size):
      left = jnp.sum(~state.done)
      return (state.position < max_length) & (left > next_size)

    state = jax.lax.while_loop(running, step, state)
    if next_size:
      rows = jnp.argsort(state.done, stable=True)[:next_size]
      wholes.append((rows, state))
      state = _map_rows(lambda x, rows=rows: x[rows], state)
  for rows, whole in reversed(wholes):
    state = _map_rows(lambda x, y, rows=rows: x.at[rows].set(y), whole, state)
  return state


def _map_rows(function, state, *others):
  """Maps all leaves of states but the position, which is that of the last."""
  position = (state, *others)[-1].position
  mapped = jax.tree.map(
    function, *(s._replace(position=None) for s in (state, *others))
  )
  return mapped._replace(position=position)


class _State(NamedTuple):
  """Where greedy decoding stands.

  Attributes:
    position: int32 scalar, tokens decoded so far.
    tokens: int32 (b, 1), the last of them.
    outputs: int32 (b, t), all of them, 0 from `position` on.
    done: bool (b,), rows that have ended.
    cache: the decoder's.
  """

  position: jax.Array
  tokens: jax.Array
  outputs: jax.Array
  done: jax.Array
  cache: Any


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

  def step(state):
    position, tokens, outputs, done, cache = state
    logits, cache = decode_position(tokens, position, cache)
    logits = rules(logits[:, 0], outputs, position)
    tokens = jnp.where(done, PAD_ID, largest.argmax(logits))[:, None]
    outputs = jax.lax.dynamic_update_slice(outputs, tokens, (0, position))
    return _State(position + 1, tokens, outputs, done | (tokens[:, 0] == EOS_ID), cache)

  start = _State(
    position=jnp.zeros((), jnp.int32),
    tokens=jnp.full((batch, 1), PAD_ID, jnp.int32),
    outputs=jnp.full((batch, max_length), PAD_ID, jnp.int32),
    done=jnp.all(encoder_segment_ids == 0, axis=1),
    cache=cache,
  )
  return run_rows(step, start, max_length).outputs

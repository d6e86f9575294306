"""Beam search with a key-value cache, by T5X's rules or by Hugging Face's.

Stands where greedy decoding does: encoder tokens -> model -> predictions.

Both keep n live beams, extend them by the 2n best (beam, token) pairs at every
step, and set aside those that end. They differ in which may end, in the score,
and in when a row is done; see `BeamConfig`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from t5tune import errors
from t5tune.models import decoding, largest, logit_rules, t5

RULES = ("t5x", "hf")


@dataclasses.dataclass(frozen=True)
class BeamConfig:
  """How to search. The defaults are the T5 paper's (Raffel et al. 2020, 3.1.4).

  A sequence of m tokens, the end of sequence included, scores its log-probability
  divided by

    't5x': ((5 + m) / 6) ** length_penalty (Wu et al. 2016, equation 14)
    'hf': m ** length_penalty

  't5x' is T5X's `decoding.beam_search`. Any of the 2n candidates may end; a row is
  done when no live beam can still beat its n ended ones. Beams cut at the length
  limit count only in a row where none ended, and then score their log-probability.

  'hf' is Hugging Face's `generate` (`GenerationMixin._beam_search`). Only the n
  best candidates may end; beams cut at the length limit count as ended. A row
  with n ended beams is done by `early_stopping`, or else when the best live beam
  would not beat them if it ended now (a heuristic: a longer one still might).

  Attributes:
    num_beams: n, the live beams and the sequences returned for a row. One beam is
      greedy decoding by the rules of 'hf', but not by those of 't5x', where the
      runner-up may end.
    length_penalty: exponent (T5X: alpha); the larger, the longer the best sequence.
    rules: 't5x' or 'hf'.
    early_stopping: for 'hf' only: whether a row is done with its n-th ended beam.
  """

  num_beams: int = 4
  length_penalty: float = 0.6
  rules: Literal["t5x", "hf"] = "t5x"
  early_stopping: bool = False

  def __post_init__(self):
    name = "beam_search.BeamConfig"
    if type(self.num_beams) is not int or self.num_beams < 1:
      raise errors.UserError(
        f"{name}.num_beams = {self.num_beams!r}: it must be an integer, at least 1."
      )
    if self.rules not in RULES:
      raise errors.UserError(
        f"{name}.rules = {self.rules!r}: it must be 't5x' or 'hf'."
        + errors.did_you_mean(str(self.rules), RULES)
      )
    if type(self.early_stopping) is not bool:
      raise errors.UserError(
        f"{name}.early_stopping = {self.early_stopping!r}: it must be True or False."
      )
    if self.early_stopping and self.rules == "t5x":
      raise errors.UserError(
        f"{name}.early_stopping = True: the rules 't5x' know no early stopping; set"
        f" it to False, or {name}.rules to 'hf'."
      )
    if not math.isfinite(self.length_penalty):
      raise errors.UserError(
        f"{name}.length_penalty = {self.length_penalty}: it must be finite."
      )
    if self.length_penalty < 0 and self.rules == "t5x":
      # A live beam could then gain by its mere length, without bound.
      raise errors.UserError(
        f"{name}.length_penalty = {self.length_penalty}: by the rules 't5x' it must"
        " be at least 0."
      )

  def normalize(self, logprobs: jax.Array, length: jax.Array | int) -> jax.Array:
    """Returns the scores of sequences of `length` tokens from log-probabilities."""
    length = jnp.asarray(length, jnp.float32)
    if self.rules == "t5x":
      length = (5 + length) / 6
    return logprobs / length**self.length_penalty


def beam_search(
  model: t5.T5,
  encoded: jax.Array,
  encoder_segment_ids: jax.Array,
  max_length: int,
  config: BeamConfig,
  rules: logit_rules.LogitRules = logit_rules.NONE,
) -> tuple[jax.Array, jax.Array]:
  """Decodes the sequences that score best, by beam search.

  Rows do not depend on each other.

  Args:
    model: the model.
    encoded: (b, s, d), from `model.encode`.
    encoder_segment_ids: int32 (b, s), 1 at tokens and 0 at padding. A row without
      tokens (batch padding) counts as done from the start.
    max_length: t, most tokens to decode, the end of sequence included.
    config: how to search.
    rules: tokens that may not come next; what is left keeps its probability.

  Returns:
    int32 (b, n, t): the sequences of each row, best first: tokens up to and
    including the end of sequence, then 0. One without an end of sequence met
    `max_length`.
    float32 (b, n): their scores. -inf marks a slot without a sequence, all 0: in
    batch padding, and where fewer than n sequences ended by the rules of 't5x'.
  """
  decode_position, cache = model.start_decoding(
    encoded, encoder_segment_ids, max_length, config.num_beams, change_places=True
  )
  padding = jnp.all(encoder_segment_ids == 0, axis=1)
  return search(decode_position, cache, padding, max_length, config, rules)


class _State(NamedTuple):
  """Where the search stands; beams are sorted, best first.

  Attributes:
    position: int32 scalar, tokens decoded so far.
    live_tokens: int32 (b, n), last tokens of the live beams.
    live_ids: int32 (b, n, t), 0 from `position` on.
    live_logprobs: float32 (b, n), -inf where there is no beam.
    ids: int32 (b, n, t), ended sequences.
    scores: float32 (b, n), their scores, -inf in slots not yet taken.
    done: bool (b,), rows whose ended sequences are final.
    lineage: int32 (b, n, t), which beam each live one was at each earlier position.
    cache: the decoder's, in the order in which it was written.
  """

  position: jax.Array
  live_tokens: jax.Array
  live_ids: jax.Array
  live_logprobs: jax.Array
  ids: jax.Array
  scores: jax.Array
  done: jax.Array
  lineage: jax.Array
  cache: Any


def search(
  decode_position: Callable[..., tuple[jax.Array, Any]],
  cache: Any,
  padding: jax.Array,
  max_length: int,
  config: BeamConfig,
  rules: logit_rules.LogitRules = logit_rules.NONE,
) -> tuple[jax.Array, jax.Array]:
  """Searches the sequences of any decoder with a cache.

  Args:
    decode_position: maps last tokens, int32 (b, n), a position, the cache and the
      beams' lineage, int32 (b, n, t), to float32 logits (b, n, v) and the new cache, as
      `T5.start_decoding` has it.
    cache: the decoder's, empty.
    padding: bool (b,), rows to leave empty.
    max_length: t, most tokens to decode.
    config: how to search.
    rules: tokens that may not come next.

  Returns:
    int32 (b, n, t) and float32 (b, n), as `beam_search`.
  """
  batch, beams = padding.shape[0], config.num_beams

  def step(state):
    logits, cache = decode_position(
      state.live_tokens, state.position, state.cache, state.lineage
    )
    logprobs = rules(
      jax.nn.log_softmax(logits.reshape(state.live_tokens.size, -1)),
      state.live_ids.reshape(-1, max_length),
      state.position,
    )
    return _advance(state._replace(cache=cache), logprobs, max_length, config)

  # All beams of a row start alike, so only the first may be extended.
  first = jnp.where(jnp.arange(beams) == 0, 0.0, -jnp.inf)
  empty_ids = jnp.full((batch, beams, max_length), decoding.PAD_ID, jnp.int32)
  empty_scores = jnp.full((batch, beams), -jnp.inf)
  start = _State(
    position=jnp.zeros((), jnp.int32),
    live_tokens=jnp.full((batch, beams), decoding.PAD_ID, jnp.int32),
    live_ids=empty_ids,
    live_logprobs=jnp.tile(first, (batch, 1)),
    ids=empty_ids,
    scores=empty_scores,
    done=padding,
    lineage=jnp.zeros_like(empty_ids),
    cache=cache,
  )
  end = decoding.run_rows(step, start, max_length)
  if config.rules == "hf":
    return end.ids, end.scores
  unended = ~padding & (end.scores[:, 0] == -jnp.inf)
  ids = jnp.where(unended[:, None, None], end.live_ids, end.ids)
  return ids, jnp.where(unended[:, None], end.live_logprobs, end.scores)


def _advance(
  state: _State, logprobs: jax.Array, max_length: int, config: BeamConfig
) -> _State:
  """Extends the live beams by a token, given its log-probabilities (b*n, v)."""
  beams, vocab = config.num_beams, logprobs.shape[-1]
  logprobs = logprobs.reshape(-1, beams, vocab) + state.live_logprobs[:, :, None]
  # 2n, for n of them at most end: each beam has one end of sequence.
  logprobs, index = largest.top_k(logprobs.reshape(-1, beams * vocab), 2 * beams)
  origin, tokens = index // vocab, (index % vocab).astype(jnp.int32)
  ids = jax.lax.dynamic_update_slice_in_dim(
    _take(state.live_ids, origin), tokens[:, :, None], state.position, axis=2
  )
  length = state.position + 1
  ends = tokens == decoding.EOS_ID

  if config.rules == "hf":
    among_best = jnp.arange(2 * beams) < beams
    enters = (ends | (length == max_length)) & among_best[None]
  else:
    enters = ends
  enters &= ~state.done[:, None]
  scores = jnp.where(enters, config.normalize(logprobs, length), -jnp.inf)
  scores, best = jax.lax.top_k(jnp.concatenate([state.scores, scores], 1), beams)
  ended_ids = _take(jnp.concatenate([state.ids, ids], 1), best)

  live_logprobs, live = jax.lax.top_k(jnp.where(ends, -jnp.inf, logprobs), beams)
  here = jnp.arange(max_length) == state.position
  lineage = jnp.where(here, jnp.arange(beams)[:, None], state.lineage)
  return _State(
    position=length,
    live_tokens=_take(tokens, live),
    live_ids=_take(ids, live),
    live_logprobs=live_logprobs,
    ids=ended_ids,
    scores=scores,
    done=state.done | _is_done(scores, live_logprobs, length, max_length, config),
    lineage=_take(lineage, _take(origin, live)),
    cache=state.cache,
  )


def _is_done(scores, live_logprobs, length, max_length, config) -> jax.Array:
  """Returns bool (b,): whether a row's ended sequences, of `scores`, are final."""
  worst = scores[:, -1]  # -inf until n have ended
  if config.early_stopping:
    return worst > -jnp.inf
  # Log-probabilities only fall: by the rules of 't5x' this bounds all that a live
  # beam can still reach.
  length = max_length if config.rules == "t5x" else length
  return config.normalize(live_logprobs[:, 0], length) <= worst


def _take(x: jax.Array, beams: jax.Array) -> jax.Array:
  """Returns the beams (b, m) of `x` (b, n, ...), as (b, m, ...)."""
  index = beams.reshape(*beams.shape, *[1] * (x.ndim - 2))
  return jnp.take_along_axis(x, index, axis=1, mode="promise_in_bounds")

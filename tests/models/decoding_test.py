"""Cached greedy decoding against teacher forcing, position by position."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5tune import partitioning
from t5tune.models import decoding
from t5tune.training import train_state
from tests.models import tiny_t5

MAX_LENGTH = 12
EXAMPLES = tiny_t5.examples([(n, 1) for n in (9, 2, 7, 5, 8)])
# The last row has no tokens, as the padding of a batch.
INPUTS = tiny_t5.pack([*([e] for e in EXAMPLES), []], 9, 1)
TOKENS, SEGMENTS = INPUTS["encoder_input_tokens"], INPUTS["encoder_segment_ids"]


class Decoder:
  """A model whose rows end at different positions, and its two ways to decode."""

  def __init__(self, dtype: str):
    model = train_state.Model(dataclasses.replace(tiny_t5.CONFIG, dtype=dtype))
    params = tiny_t5.params(model)
    # EOS so likely that some rows end early, and some do not.
    params["decoder"]["logits_dense"]["kernel"][:, decoding.EOS_ID] *= 2.5
    greedy = tiny_t5.jit(
      lambda params, *inputs: decoding.greedy(
        *tiny_t5.encoded(model.merge(params), *inputs), MAX_LENGTH
      )
    )
    self.greedy = lambda *inputs: np.asarray(greedy(params, *inputs))
    self.outputs = self.greedy(TOKENS, SEGMENTS)
    self.lengths = (self.outputs != decoding.PAD_ID).sum(axis=1)
    self._forward = lambda batch: np.asarray(tiny_t5.forward(model)(params, batch))

  def teacher_forced_logits(self) -> np.ndarray:
    """Logits (b, t, v) with the decoded tokens as the decoder's input."""
    shifted = np.pad(self.outputs, ((0, 0), (1, 0)))[:, :-1]
    inside = np.arange(MAX_LENGTH) < self.lengths[:, None]
    return self._forward(
      {
        **INPUTS,
        "decoder_input_tokens": shifted,
        "decoder_segment_ids": inside.astype(np.int32),
      }
    )


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def decoder(request):
  return Decoder(request.param)


def test_rows_end_at_different_positions(decoder):
  # Or the tests below would show less than they seem to.
  assert decoder.lengths[-1] == 0
  assert decoder.lengths.max() == MAX_LENGTH
  assert len(set(decoder.lengths)) >= 4


def test_each_token_is_the_most_likely_under_teacher_forcing(decoder, request):
  logits = decoder.teacher_forced_logits()
  inside = np.arange(MAX_LENGTH) < decoder.lengths[:, None]
  chosen = np.take_along_axis(logits, decoder.outputs[..., None], axis=-1)[..., 0]
  behind = (logits.max(axis=-1) - chosen)[inside]
  if "bfloat16" in request.node.name:
    # Sums in another order round differently: a near tie may fall either way.
    assert behind.max() < 0.1 < np.ptp(logits, axis=-1)[inside].min()
  else:
    assert behind.max() == 0


def test_a_row_ends_with_its_first_end_of_sequence(decoder):
  for row, length in zip(decoder.outputs, decoder.lengths, strict=True):
    ends = np.flatnonzero(row == decoding.EOS_ID)
    assert length in (0, MAX_LENGTH) or ends.tolist() == [length - 1]
    assert not row[length:].any()


def test_rows_do_not_depend_on_each_other(decoder):
  order = np.array([3, 5, 0, 4, 2, 1])
  np.testing.assert_array_equal(
    decoder.greedy(TOKENS[order], SEGMENTS[order]), decoder.outputs[order]
  )
  # A row decodes on when all others have no tokens.
  longest = decoder.lengths.argmax()
  others = np.arange(len(TOKENS))[:, None] != longest
  alone = decoder.greedy(np.where(others, 0, TOKENS), np.where(others, 0, SEGMENTS))
  np.testing.assert_array_equal(alone, np.where(others, 0, decoder.outputs))


def test_tokens_under_padding_are_never_seen(decoder):
  junk = np.where(SEGMENTS == 0, 77, TOKENS)
  np.testing.assert_array_equal(decoder.greedy(junk, SEGMENTS), decoder.outputs)


def test_a_batch_of_padding_decodes_nothing(decoder):
  assert not decoder.greedy(np.zeros_like(TOKENS), np.zeros_like(SEGMENTS)).any()


class Counts(NamedTuple):
  """Rows that count up to numbers of their own."""

  position: jax.Array
  counts: jax.Array
  ends: jax.Array
  done: jax.Array


def count(ends: list[int], most: int) -> tuple[Counts, list[int]]:
  """Returns where `run_rows` ends, and how many rows each of its loops had."""
  sizes = []

  def step(state):
    if len(state.done) not in sizes:
      sizes.append(len(state.done))
    counts = jnp.where(state.done, state.counts, state.counts + 1)
    return Counts(state.position + 1, counts, state.ends, counts >= state.ends)

  ends = jnp.asarray(ends)
  start = Counts(jnp.zeros((), int), jnp.zeros_like(ends), ends, ends == 0)
  return jax.jit(lambda state: decoding.run_rows(step, state, most))(start), sizes


@pytest.mark.parametrize("most", [1, 6, 20])
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 16])
def test_rows_left_out_keep_what_they_had(rows, most):
  rng = np.random.default_rng(rows)
  for _ in range(5):
    ends = rng.integers(0, 9, rows).tolist()
    end, sizes = count(ends, most)
    np.testing.assert_array_equal(end.counts, np.minimum(ends, most))
    np.testing.assert_array_equal(end.ends, ends)
    assert end.position == min(max(ends), most)
    assert sizes == [n for n in (rows, rows // 2, rows // 4) if n]


def test_rows_that_lie_on_several_devices_stay_together():
  with jax.set_mesh(partitioning.make_mesh({"data": 8})):
    end, sizes = count([3, 1, 4, 1, 5, 9, 2, 6], 20)
  assert sizes == [8]
  np.testing.assert_array_equal(end.counts, end.ends)

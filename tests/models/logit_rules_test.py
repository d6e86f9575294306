"""Rules of decoding, against a plain reading of them."""

import dataclasses

import jax
import numpy as np
import pytest

from t5tune.errors import UserError
from t5tune.models import beam_search, decoding
from t5tune.models.logit_rules import LogitRules
from t5tune.training import train_state
from tests.models import tiny_t5

VOCAB = 5


def forbidden(tokens: list[int], rules: LogitRules) -> set[int]:
  """What may not follow the tokens, read off the rules one by one."""
  found = {decoding.EOS_ID} if len(tokens) < rules.min_length else set()
  n = rules.no_repeat_ngram
  tokens = [decoding.PAD_ID, *tokens]  # the decoder's first input
  for start in range(len(tokens) - n + 1 if n else 0):
    *before, then = tokens[start : start + n]
    if before == tokens[len(tokens) - n + 1 :]:
      found.add(then)
  return found


@pytest.mark.parametrize("n", [0, 1, 2, 3, 12])
@pytest.mark.parametrize("min_length", [0, 4])
def test_what_may_not_come_next(n, min_length):
  rng, length = np.random.default_rng(n), 9
  rules = LogitRules(min_length, n)
  apply = jax.jit(rules)
  outputs = rng.integers(0, VOCAB, (40, length)).astype(np.int32)
  logits = rng.normal(size=(40, VOCAB)).astype(np.float32)
  seen = 0
  for position in range(length):
    found = np.asarray(apply(logits, outputs, position))
    for row, tokens in enumerate(outputs[:, :position].tolist()):
      banned = forbidden(tokens, rules)
      seen += len(banned)
      assert set(np.flatnonzero(found[row] == -np.inf)) == banned
      left = [v for v in range(VOCAB) if v not in banned]
      np.testing.assert_array_equal(found[row, left], logits[row, left])
  assert bool(seen) == bool(min_length or 0 < n < 12)


@pytest.mark.parametrize("values", [{"min_length": -1}, {"no_repeat_ngram": 2.0}])
def test_settings_that_cannot_be(values):
  with pytest.raises(UserError, match=f"LogitRules.{next(iter(values))}"):
    LogitRules(**values)


class Decoder:
  """A model that ends early and repeats itself, and its two ways to decode."""

  LENGTH = 16

  def __init__(self):
    self.model = train_state.Model(
      dataclasses.replace(tiny_t5.CONFIG, num_encoder_layers=1, num_decoder_layers=1)
    )
    self.params = tiny_t5.params(self.model)
    self.params["decoder"]["logits_dense"]["kernel"][:, decoding.EOS_ID] *= 3
    rows = [[e] for e in tiny_t5.examples([(n, 1) for n in (9, 2, 7, 5, 8, 3)])]
    packed = tiny_t5.pack(rows, 9, 1)
    self.inputs = packed["encoder_input_tokens"], packed["encoder_segment_ids"]

  def greedy(self, rules: LogitRules) -> np.ndarray:
    run = tiny_t5.jit(
      lambda p, *x: decoding.greedy(
        *tiny_t5.encoded(self.model.merge(p), *x), self.LENGTH, rules
      )
    )
    return np.asarray(run(self.params, *self.inputs))

  def beams(self, rules: LogitRules, by: str) -> np.ndarray:
    config = beam_search.BeamConfig(3, 1.0, by)
    run = tiny_t5.jit(
      lambda p, *x: beam_search.beam_search(
        *tiny_t5.encoded(self.model.merge(p), *x), self.LENGTH, config, rules
      )
    )
    return np.asarray(run(self.params, *self.inputs)[0]).reshape(-1, self.LENGTH)


@pytest.fixture(scope="module")
def decoder():
  return Decoder()


def lengths(outputs: np.ndarray) -> list[int]:
  return (outputs != decoding.PAD_ID).sum(axis=1).tolist()


def repeats(outputs: np.ndarray, n: int) -> bool:
  for row, length in zip(outputs.tolist(), lengths(outputs), strict=True):
    grams = [tuple(row[i : i + n]) for i in range(length - n + 1)]
    if len(set(grams)) < len(grams):
      return True
  return False


@pytest.mark.parametrize("by", ["greedy", *beam_search.RULES])
def test_outputs_keep_the_rules(decoder, by):
  decode = decoder.greedy if by == "greedy" else lambda r: decoder.beams(r, by)
  free, held = decode(LogitRules()), decode(LogitRules(9, 2))
  assert min(n for n in lengths(free) if n) < 10 and repeats(free, 2)
  assert min(n for n in lengths(held) if n) >= 10
  assert not repeats(held, 2)

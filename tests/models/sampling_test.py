"""Sampling: the distribution, its filters, the seed, and teacher forcing."""

import functools

import jax
import numpy as np
import pytest

from t5tune.errors import UserError
from t5tune.models import decoding, sampling
from t5tune.models.sampling import SamplingConfig
from t5tune.training import train_state
from tests.models import tiny_t5

MODEL = train_state.Model(tiny_t5.CONFIG)
LENGTH = 10
EXAMPLES = tiny_t5.examples([(n, 1) for n in (9, 2, 7, 5)])
# The last row has no tokens, as the padding of a batch.
INPUTS = tiny_t5.pack([*([e] for e in EXAMPLES), []], 9, 1)
TOKENS, SEGMENTS = INPUTS["encoder_input_tokens"], INPUTS["encoder_segment_ids"]
KEYS = jax.random.split(jax.random.key(0), len(TOKENS))


@functools.cache
def params():
  drawn = tiny_t5.params(MODEL)
  drawn["decoder"]["logits_dense"]["kernel"][:, decoding.EOS_ID] *= 1.5
  return drawn


@functools.cache
def compiled(config: SamplingConfig, length: int):
  return tiny_t5.jit(
    lambda p, *x: sampling.sample(*tiny_t5.encoded(MODEL.merge(p), *x), length, config)
  )


def sample(config, tokens=TOKENS, segments=SEGMENTS, keys=KEYS, length=LENGTH):
  return jax.device_get(compiled(config, length)(params(), tokens, segments, keys))


@pytest.mark.parametrize("config", [SamplingConfig(1e-4), SamplingConfig(top_k=1)])
def test_without_choice_it_is_greedy(config):
  greedy = tiny_t5.jit(
    lambda p, *x: decoding.greedy(*tiny_t5.encoded(MODEL.merge(p), *x), LENGTH)
  )
  expected = greedy(params(), TOKENS, SEGMENTS)
  np.testing.assert_array_equal(sample(config)[0][:, 0], expected)


def test_scores_are_log_probabilities_under_teacher_forcing():
  ids, scores = sample(SamplingConfig(0.8, top_k=20, num_samples=3))
  flat = ids.reshape(-1, LENGTH)
  batch = {k: np.repeat(x, 3, axis=0) for k, x in INPUTS.items()}
  batch["decoder_input_tokens"] = np.pad(flat, ((0, 0), (1, 0)))[:, :-1]
  batch["decoder_segment_ids"] = np.ones_like(flat)
  logprobs = jax.nn.log_softmax(tiny_t5.forward(MODEL)(params(), batch))
  taken = np.take_along_axis(np.asarray(logprobs), flat[..., None], axis=-1)[..., 0]
  expected = np.where(flat != decoding.PAD_ID, taken, 0).sum(axis=1).reshape(-1, 3)
  np.testing.assert_allclose(scores, expected, atol=1e-4)
  assert (scores[:-1, 0] > scores[:-1, 2]).all()  # sorted, and not three times the same
  assert not ids[-1].any() and not scores[-1].any()  # padding


def test_a_row_is_drawn_by_its_key_alone():
  config = SamplingConfig(num_samples=2)
  ids, _ = sample(config)
  order = np.array([2, 0, 4, 3, 1])
  again, _ = sample(config, TOKENS[order], SEGMENTS[order], KEYS[order])
  np.testing.assert_array_equal(again, ids[order])
  others, _ = sample(config, keys=jax.random.split(jax.random.key(1), len(TOKENS)))
  assert (others[:4] != ids[:4]).any(axis=(1, 2)).all()


@pytest.mark.parametrize(
  "config",
  [SamplingConfig(), SamplingConfig(0.6, 8), SamplingConfig(1.5, 0, 0.7)],
  ids=str,
)
def test_tokens_are_drawn_as_often_as_is_said(config):
  count = 4000
  keys = jax.random.split(jax.random.key(7), count)
  rows = [np.repeat(x[:1], count, axis=0) for x in (TOKENS, SEGMENTS)]
  ids, _ = sample(config, *rows, keys, 1)
  found = np.bincount(ids[:, 0, 0], minlength=tiny_t5.VOCAB) / count

  batch = {k: x[:1] for k, x in INPUTS.items()}
  batch["decoder_input_tokens"] = np.zeros((1, 1), np.int32)
  batch["decoder_segment_ids"] = np.ones((1, 1), np.int32)
  logits = np.asarray(tiny_t5.forward(MODEL)(params(), batch), float)[0, 0]
  order = np.argsort(-logits / config.temperature)
  share = np.exp(logits[order] / config.temperature - logits.max() / config.temperature)
  share /= share.sum()
  kept = config.top_k or len(share)
  if config.top_p < 1:
    kept = int(np.argmax(np.cumsum(share) >= config.top_p)) + 1
  wanted = np.zeros(len(share))
  wanted[order[:kept]] = share[:kept] / share[:kept].sum()
  assert not found[wanted == 0].any()
  spread = np.sqrt(wanted * (1 - wanted) / count)
  assert (np.abs(found - wanted) <= 5 * spread + 1e-12).all()
  assert kept == len(share) or 1 < kept < len(share)


def test_twice_as_many_samples_are_twice_the_work():
  def flops(count):
    def first(params, tokens):
      module = MODEL.merge(params)
      inputs = module.encode(TOKENS, SEGMENTS), SEGMENTS
      step, cache = module.start_decoding(*inputs, 200, count)
      return step(tokens, 0, cache)

    last = np.zeros((len(TOKENS), count), np.int32)
    return jax.jit(first).lower(params(), last).cost_analysis()["flops"]

  assert flops(64) < 2.1 * flops(32)


@pytest.mark.parametrize(
  "values", [{"temperature": 0}, {"top_k": -1}, {"top_p": 1.5}, {"num_samples": 0}]
)
def test_settings_that_cannot_be(values):
  with pytest.raises(UserError, match=f"SamplingConfig.{next(iter(values))}"):
    SamplingConfig(**values)

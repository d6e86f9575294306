"""Beam search of the model: teacher forcing, greedy, rows, padding, sharding."""

import functools

import jax
import numpy as np
import pytest

from t5tune import partitioning
from t5tune.models import beam_search, decoding
from t5tune.models.beam_search import BeamConfig
from t5tune.training import train_state
from tests.models import tiny_t5

EOS = decoding.EOS_ID
MODEL = train_state.Model(tiny_t5.CONFIG)
LENGTH = 10
EXAMPLES = tiny_t5.examples([(n, 1) for n in (9, 2, 7, 5, 8, 3, 6)])
# The last row has no tokens, as the padding of a batch.
INPUTS = tiny_t5.pack([*([e] for e in EXAMPLES), []], 9, 1)
TOKENS, SEGMENTS = INPUTS["encoder_input_tokens"], INPUTS["encoder_segment_ids"]
T5X, HF = BeamConfig(3, 0.6, "t5x"), BeamConfig(3, 1.0, "hf")


def params():
  drawn = tiny_t5.params(MODEL)
  # EOS so likely that some rows end early, and some do not.
  drawn["decoder"]["logits_dense"]["kernel"][:, EOS] *= 1.7
  return drawn


@functools.cache
def compiled(config: BeamConfig):
  return tiny_t5.jit(
    lambda p, *x: beam_search.beam_search(
      *tiny_t5.encoded(MODEL.merge(p), *x), LENGTH, config
    )
  )


def search(config: BeamConfig, tokens=TOKENS, segment_ids=SEGMENTS):
  return jax.device_get(compiled(config)(params(), tokens, segment_ids))


def test_one_beam_of_hugging_face_is_greedy():
  greedy = tiny_t5.jit(
    lambda p, *x: decoding.greedy(*tiny_t5.encoded(MODEL.merge(p), *x), LENGTH)
  )
  ids, _ = search(BeamConfig(1, 1.0, "hf"))
  np.testing.assert_array_equal(ids[:, 0], greedy(params(), TOKENS, SEGMENTS))


@pytest.mark.parametrize(
  "config,penalty",
  [(T5X, lambda m: ((5 + m) / 6) ** 0.6), (HF, lambda m: m)],
  ids=beam_search.RULES,
)
def test_scores_are_those_of_teacher_forcing(config, penalty):
  ids, scores = search(config)
  flat = ids.reshape(-1, LENGTH)
  batch = {k: np.repeat(x, config.num_beams, axis=0) for k, x in INPUTS.items()}
  batch["decoder_input_tokens"] = np.pad(flat, ((0, 0), (1, 0)))[:, :-1]
  batch["decoder_segment_ids"] = np.ones_like(flat)
  logprobs = jax.nn.log_softmax(tiny_t5.forward(MODEL)(params(), batch))
  logprobs = np.take_along_axis(np.asarray(logprobs), flat[..., None], axis=-1)
  logprobs = logprobs.reshape(ids.shape)

  lengths = set()
  for row, _ in enumerate(EXAMPLES):
    taken = scores[row] > -np.inf
    assert taken[0] and len({tuple(x) for x in ids[row, taken]}) == taken.sum()
    assert not ids[row, ~taken].any()
    ended = (ids[row] == EOS).any()
    for beam in np.flatnonzero(taken):
      x = ids[row, beam]
      length = list(x).index(EOS) + 1 if EOS in x else LENGTH
      lengths.add(length)
      assert not x[length:].any()
      expected = logprobs[row, beam, :length].sum()
      if config.rules == "hf" or ended:
        expected /= penalty(length)
      assert scores[row, beam] == pytest.approx(expected, abs=1e-4)
    assert (scores[row, :-1] >= scores[row, 1:]).all()
  assert len(lengths) >= 3 and LENGTH in lengths
  assert not ids[-1].any() and (scores[-1] == -np.inf).all()


@pytest.mark.parametrize("config", [T5X, HF], ids=beam_search.RULES)
def test_rows_do_not_depend_on_each_other(config):
  ids, scores = search(config)
  order = np.array([3, 5, 0, 7, 6, 4, 2, 1])
  other_ids, other_scores = search(config, TOKENS[order], SEGMENTS[order])
  np.testing.assert_array_equal(other_ids, ids[order])
  np.testing.assert_allclose(other_scores, scores[order], rtol=1e-5)
  for row in range(3):
    others = np.arange(len(TOKENS))[:, None] != row
    alone, _ = search(
      config, np.where(others, 0, TOKENS), np.where(others, 0, SEGMENTS)
    )
    np.testing.assert_array_equal(alone[row], ids[row])
    assert not np.delete(alone, row, axis=0).any()


def test_sharded_equals_unsharded():
  mesh = partitioning.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
  place = lambda x, *axes: jax.device_put(  # noqa: E731
    x, partitioning.sharding(mesh, axes, x.shape)
  )
  placed = jax.tree.map(
    lambda x, spec: place(x, *spec.axes), params(), MODEL.param_specs()
  )
  inputs = [place(x, "batch", "length") for x in (TOKENS, SEGMENTS)]
  with jax.set_mesh(mesh):
    ids, scores = jax.device_get(compiled(HF)(placed, *inputs))
  expected_ids, expected_scores = search(HF)
  np.testing.assert_array_equal(ids, expected_ids)
  np.testing.assert_allclose(scores, expected_scores, rtol=1e-4)

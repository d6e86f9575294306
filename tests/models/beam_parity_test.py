"""Parity of beam search with Hugging Face's and with T5X's: ids and scores.

Skipped where the recorded checkpoints are absent.
"""

import functools

import numpy as np
import pytest

from t5tune.models import beam_search, decoding
from t5tune.training import train_state
from t5tune.weights import huggingface
from tests.models import recorded, tiny_t5


def compiled(model_config, length: int, config: beam_search.BeamConfig):
  """Returns the compiled search of (parameters, tokens, segment ids)."""
  model = train_state.Model(model_config)
  return tiny_t5.jit(
    lambda params, *inputs: beam_search.beam_search(
      *tiny_t5.encoded(model.merge(params), *inputs), length, config
    )
  )


cached = functools.cache(compiled)  # models of one shape share a program


def check(found, expected_ids, expected_scores):
  """Compares sequences, which a record may have cut behind the longest."""
  ids, scores = map(np.asarray, found)
  width = expected_ids.shape[-1]
  np.testing.assert_array_equal(ids[..., :width], expected_ids)
  assert not ids[..., width:].any()
  np.testing.assert_allclose(scores, expected_scores, rtol=0, atol=1e-4)


@pytest.fixture(scope="module", params=["hf_tiny_a", "hf_tiny_sharded", "hf_tiny_tied"])
def hf(request):
  """A model's configuration, parameters, and what Hugging Face made of them."""
  path = recorded.fixture(request.param)
  opened = huggingface.open_directory(path)
  return opened.config, opened.nested(lambda name, x: x), np.load(f"{path}.npz")


def without_start_and_fill(ids):
  """Returns recorded ids (b, 1 + t) as ours (b, t).

  Behind the end of sequence, Hugging Face fills with it where padding is 0.
  """
  ids = ids[:, 1:]
  ended = np.cumsum(ids == decoding.EOS_ID, axis=1) - (ids == decoding.EOS_ID) > 0
  return np.where(ended, decoding.PAD_ID, ids)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("length_penalty", [1.0, 0.6])
def test_hugging_face(hf, length_penalty, early_stopping):
  model_config, params, expected = hf
  config = beam_search.BeamConfig(4, length_penalty, "hf", early_stopping)
  inputs = expected["input_ids"], expected["attention_mask"]
  ids, scores = cached(model_config, 24, config)(params, *inputs)

  name = f"gen_beam4_lp{length_penalty}_es{early_stopping}"
  best = without_start_and_fill(expected[name])
  check((ids[:, 0], scores[:, 0]), best, expected[f"{name}_scores"])
  if f"{name}_all4" in expected:
    all_ids = without_start_and_fill(expected[f"{name}_all4"])
    all_ids = all_ids.reshape(*scores.shape, -1)
    all_scores = expected[f"{name}_all4_scores"].reshape(scores.shape)
    check((ids, scores), all_ids, all_scores)


@pytest.mark.parametrize(
  "beams,alpha,suffix",
  [(1, 0.0, ""), (1, 0.6, ""), (4, 0.0, ""), (4, 0.6, ""), (4, 0.6, "_noeos")],
)
def test_t5x(beams, alpha, suffix, monkeypatch):
  folder = recorded.fixture("t5x_tiny_a")
  expected = np.load(folder / "reference.npz")
  tokens = expected["encoder_input_tokens"]
  if suffix:  # the record of a search that no token ends
    monkeypatch.setattr(decoding, "EOS_ID", -1)
  decode = compiled(recorded.CONFIG, 16, beam_search.BeamConfig(beams, alpha))
  params = recorded.stack(dict(np.load(folder / "params.npz")))
  found = decode(params, tokens, (tokens > 0).astype(np.int32))

  name = f"beam{beams}_alpha{alpha}{suffix}"
  # T5X puts the best last.
  ids, scores = expected[f"{name}_decodes"], expected[f"{name}_scores"]
  check(found, ids[:, ::-1], scores[:, ::-1])

"""Encoding for decoding is encoding, however it is done."""

import dataclasses

import jax
import numpy as np
import pytest

from t5tune import partitioning
from t5tune.models import beam_search, decoding, encoding, few_rows
from t5tune.training import train_state
from tests.models import tiny_t5

LENGTH = 20
EXAMPLES = tiny_t5.examples([(n, 1) for n in (9, 2, 20, 5, 8, 13, 1)])
# A row without tokens, as the padding of a batch.
INPUTS = tiny_t5.pack([*([e] for e in EXAMPLES), []], LENGTH, 1)
TOKENS, SEGMENTS = INPUTS["encoder_input_tokens"], INPUTS["encoder_segment_ids"]


def build(dtype: str):
  model = train_state.Model(dataclasses.replace(tiny_t5.CONFIG, dtype=dtype))
  return model, tiny_t5.params(model)


@pytest.fixture(params=["own", "xla"])
def code(request, monkeypatch):
  """With the code of our own, and as it is where that cannot be compiled."""
  if request.param == "xla":
    monkeypatch.setattr(few_rows, "usable", lambda dtype: False)


@pytest.mark.parametrize("dtype,atol", [("float32", 2e-5), ("bfloat16", 0.1)])
@pytest.mark.parametrize("rows", [8, 4, 3])
def test_it_is_what_the_model_encodes(code, rows, dtype, atol):
  model, params = build(dtype)

  def both(params, *inputs):
    module = model.merge(params)
    return module.encode(*inputs), encoding.encode(module, *inputs)

  wanted, found = jax.jit(both)(params, TOKENS[:rows], SEGMENTS[:rows])
  assert found.dtype == wanted.dtype == dtype
  wanted, found = (np.asarray(x, np.float32) for x in (wanted, found))
  tokens = SEGMENTS[:rows] > 0  # what stands at padding is never looked at
  np.testing.assert_allclose(found[tokens], wanted[tokens], atol=atol)


def test_on_several_devices_it_is_the_same():
  model, params = build("float32")
  run = lambda p, *inputs: encoding.encode(model.merge(p), *inputs)  # noqa: E731
  wanted = jax.jit(run)(params, TOKENS, SEGMENTS)
  with jax.set_mesh(partitioning.make_mesh({"data": -1})):
    found = jax.jit(lambda *a: run(*a))(params, TOKENS, SEGMENTS)
  tokens = SEGMENTS > 0
  np.testing.assert_allclose(found[tokens], wanted[tokens], atol=2e-5)


@pytest.mark.parametrize("beams", [1, 3])
def test_answers_do_not_depend_on_a_compiler(beams, monkeypatch):
  model, params = build("float32")
  search = beam_search.BeamConfig(num_beams=beams)

  def answer(params, *inputs):
    module = model.merge(params)
    encoded = encoding.encode(module, *inputs)
    if beams == 1:
      return decoding.greedy(module, encoded, inputs[1], 12)
    return beam_search.beam_search(module, encoded, inputs[1], 12, search)

  found = jax.jit(answer)(params, TOKENS, SEGMENTS)
  monkeypatch.setattr(few_rows, "usable", lambda dtype: False)
  wanted = jax.jit(lambda *a: answer(*a))(params, TOKENS, SEGMENTS)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4)

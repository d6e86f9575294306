"""Weights between two checkpoints: the ends, the middle, and what cannot be averaged."""

import dataclasses

import numpy as np
import pytest

from t5tune.errors import UserError
from t5tune.weights import interpolation
from tests.weights import tiny_weights


@pytest.fixture
def ends():
  made = [tiny_weights.tensors(tiny_weights.FLAN) for _ in range(2)]
  rng = np.random.default_rng(1)
  made[1] = {
    k: v + rng.normal(size=v.shape).astype(v.dtype) for k, v in made[1].items()
  }
  return [tiny_weights.in_memory(tiny_weights.FLAN, m) for m in made]


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_every_parameter_lies_between(ends, alpha):
  found = interpolation.between(*ends, alpha)
  assert found.shapes == ends[1].shapes and found.config == ends[1].config
  for name in found.shapes:
    before, after = (end.tensor(name) for end in ends)
    value = found.tensor(name)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, before + alpha * (after - before), atol=1e-6)
    if alpha in (0, 1):  # not a bit off
      np.testing.assert_array_equal(value, (before, after)[int(alpha)])
  assert found.step == max(1, ends[1].step)


def test_another_architecture_is_refused(ends):
  wider = dataclasses.replace(tiny_weights.FLAN, mlp_dim=tiny_weights.FLAN.mlp_dim + 8)
  other = tiny_weights.in_memory(wider, tiny_weights.tensors(wider))
  with pytest.raises(
    UserError, match=r"cannot be averaged: parameter .*/mlp/w\w+/kernel has shape"
  ):
    interpolation.check_alike(ends[0], other)


def test_another_vocabulary_is_refused(ends, tmp_path):
  given = []
  for end, text in zip(ends, ("a", "b"), strict=True):
    (tmp_path / text).write_text(text)
    given.append(dataclasses.replace(end, vocabulary=tmp_path / text))
  with pytest.raises(UserError, match="they have another vocabulary"):
    interpolation.check_alike(*given)
  interpolation.check_alike(given[0], ends[1])  # one that is not known

"""Length buckets: few shapes, and batches of examples that fit them."""

import itertools

import numpy as np
import pytest

from t5tune.data import length_buckets


def lengths(seed: int, count: int = 500) -> np.ndarray:
  """Most examples short, a few of them long."""
  rng = np.random.default_rng(seed)
  drawn = np.exp(rng.normal([3.5, 2.5], 0.8, (count, 2))).astype(int) + 1
  return np.minimum(drawn, (190, 60))


def positions(made: np.ndarray, shapes) -> float:
  """Positions of the examples, each in the smallest shape that holds it."""
  fits = np.all(made[:, None] <= np.asarray(shapes), axis=2)
  return np.asarray(shapes).sum(axis=1)[fits.argmax(axis=1)].sum()


@pytest.mark.parametrize("seed", range(3))
def test_shapes_are_a_chain_up_to_the_longest(seed):
  shapes = length_buckets.choose_shapes(lengths(seed), (190, 60))
  assert 1 < len(shapes) <= length_buckets.MOST_SHAPES
  assert shapes[-1] == (190, 60)
  for a, b in itertools.pairwise(shapes):
    assert a[0] <= b[0] and a[1] <= b[1] and a != b
  assert all(n % 8 == 0 or n in (190, 60) for shape in shapes for n in shape)
  # Not half the positions of full batches.
  assert positions(lengths(seed), shapes) < 500 * 250 / 2


def test_no_chain_over_the_same_lengths_is_better(monkeypatch):
  monkeypatch.setattr(length_buckets, "_GRID", 4)
  monkeypatch.setattr(length_buckets, "MOST_SHAPES", 3)
  monkeypatch.setattr(length_buckets, "_LEAST_SAVING", 0)
  made, longest = lengths(7), (190, 60)
  grid = [length_buckets._grid(made[:, k], longest[k]) for k in (0, 1)]
  pairs = list(itertools.product(*grid))
  best = min(
    positions(made, [a, b, longest])
    for a, b in itertools.product(pairs, repeat=2)
    if a[0] <= b[0] and a[1] <= b[1]
  )
  found = length_buckets.choose_shapes(made, longest)
  assert positions(made, found) == best


def test_alike_examples_have_one_shape():
  made = np.tile((30, 9), (100, 1))
  assert length_buckets.choose_shapes(made, (32, 10)) == [(32, 10)]


def test_batches_hold_all_examples_in_shapes_that_fit():
  made = lengths(1, 640)
  shapes = length_buckets.choose_shapes(made, (190, 60))
  order, kinds = length_buckets.assign(made, shapes, 16)
  assert sorted(order.tolist()) == list(range(640))
  assert len(kinds) == 40
  for batch, kind in zip(order.reshape(-1, 16), kinds, strict=True):
    assert np.all(made[batch] <= shapes[kind])
    assert kind == 0 or np.any(made[batch] > shapes[kind - 1])
  assert len(set(kinds.tolist())) == len(shapes)

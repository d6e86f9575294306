"""Histograms of lengths: every example is counted once, up to the limit."""

import numpy as np
import pytest

from t5tune.data.inspection.lengths import Side


def side(lengths, limit, truncated=0):
  return Side("inputs", np.asarray(lengths), limit, truncated, 0, False)


@pytest.mark.parametrize("limit", [1, 7, 56, 128, 144, 512, 1000, 65_536])
@pytest.mark.parametrize("most", [1, 10, 40])
def test_bars_cover_all_lengths_without_gap(limit, most):
  lengths = np.random.default_rng(limit).integers(1, limit + 1, 500)
  lengths[0] = limit
  bars = side(lengths, limit).histogram(most)
  assert 1 <= len(bars) <= most
  assert bars[0].first == 1 and bars[-1].last == limit
  for before, after in zip(bars, bars[1:], strict=False):
    assert after.first == before.last + 1
  for bar in bars:
    inside = (lengths >= bar.first) & (lengths <= bar.last)
    assert bar.count == inside.sum()
  assert sum(bar.count for bar in bars) == 500


def test_a_limit_far_away_leaves_the_bars_to_the_lengths():
  far = side([1, 2, 5, 30], 512)
  assert not far.reaches_limit
  assert far.histogram(10)[-1].last == 30
  near = side([1, 2, 5, 300], 512)
  assert near.reaches_limit
  assert near.histogram(8)[-1] == (449, 512, 0)


def test_an_empty_text_falls_into_the_first_bar():
  assert side([0, 1, 9], 10).histogram(10)[0] == (1, 1, 2)


def test_numbers():
  one = side([1, 2, 3, 4, 90], 100, truncated=2)
  assert (one.mean, one.longest, one.above) == (20.0, 90, 0.4)
  assert [one.quantile(q) for q in (0.5, 0.6, 0.95)] == [3, 4, 90]
  assert side([1], 9, truncated=None).above is None

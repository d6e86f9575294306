"""Intervals that hold what they say."""

import numpy as np
import pytest

from t5tune.evaluation import bootstrap


def test_an_interval_is_that_of_the_normal_distribution_where_rows_are_many():
  scores = np.random.default_rng(1).normal(40, 10, 400)
  found = bootstrap.interval(scores)
  error = scores.std() / np.sqrt(len(scores))
  assert found.mean == pytest.approx(scores.mean())
  assert found.low == pytest.approx(scores.mean() - 1.96 * error, abs=0.2 * error)
  assert found.high == pytest.approx(scores.mean() + 1.96 * error, abs=0.2 * error)
  assert found == bootstrap.interval(scores)  # no draw is left to chance


def test_95_of_100_intervals_hold_the_truth():
  rng = np.random.default_rng(2)
  draws = [bootstrap.interval(rng.exponential(3, 100), 400) for _ in range(300)]
  held = np.mean([i.low <= 3 <= i.high for i in draws])
  assert 0.89 < held < 0.98


def test_pairing_sees_what_separate_intervals_do_not():
  rng = np.random.default_rng(3)
  before = rng.uniform(0, 100, 200)
  after = before + rng.normal(2, 5, 200)
  apart = bootstrap.interval(before), bootstrap.interval(after)
  assert apart[0].high > apart[1].low
  gain = bootstrap.difference(after, before)
  assert gain.low > 0 and gain.p < 0.01
  assert gain.mean == pytest.approx(after.mean() - before.mean())
  lost = bootstrap.difference(before, after)
  assert lost.mean == -gain.mean and lost.p == gain.p


def test_alike_systems_do_not_differ():
  scores = np.arange(10.0)
  assert bootstrap.difference(scores, scores) == bootstrap.Difference(0, 0, 0, 1)
  rng = np.random.default_rng(4)
  p = [
    bootstrap.difference(rng.normal(size=80), rng.normal(size=80), 400).p
    for _ in range(300)
  ]
  assert 0.02 < np.mean(np.array(p) < 0.05) < 0.1


def test_rows_that_cannot_be_paired():
  with pytest.raises(ValueError, match="3 and 2 rows"):
    bootstrap.difference(np.zeros(3), np.zeros(2))

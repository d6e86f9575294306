"""How sure a mean over rows is: the bootstrap.

Efron & Tibshirani 1993; paired, for two systems on the same rows, as Koehn 2004
(https://aclanthology.org/W04-3250) uses it.
"""

import dataclasses

import numpy as np

SAMPLES = 2000
_SEED = 0
_CHUNK = 4_000_000  # most indices drawn at once


@dataclasses.dataclass(frozen=True)
class Interval:
  """A mean and where it would lie on other rows of the same kind.

  Attributes:
    mean: of the rows there are.
    low: below it lie 2.5 % of the resampled means.
    high: above it lie 2.5 % of them.
  """

  mean: float
  low: float
  high: float


@dataclasses.dataclass(frozen=True)
class Difference(Interval):
  """The mean difference of two systems on the same rows.

  Attributes:
    p: twice the share of resampled differences that lie on the other side of zero, at
      most 1. Of fewer than some 20 rows it is too small: one in four such tests finds a
      difference among three rows where there is none.
  """

  p: float


def interval(scores: np.ndarray, samples: int = SAMPLES) -> Interval:
  """Returns the mean of rows with its 95 % interval.

  Args:
    scores: (rows,) of any float type; at least one.
    samples: how often rows are drawn anew. The draws are the same at every call.
  """
  means = _means(np.asarray(scores, float), samples)
  low, high = np.percentile(means, [2.5, 97.5])
  return Interval(float(np.mean(scores)), float(low), float(high))


def difference(
  scores: np.ndarray, others: np.ndarray, samples: int = SAMPLES
) -> Difference:
  """Returns how far one system's mean lies above another's, row by row.

  Args:
    scores: (rows,) scores of the one.
    others: (rows,) scores of the other on the same rows, in the same order.
    samples: how often rows are drawn anew.

  Raises:
    ValueError: the numbers of rows differ.
  """
  if len(scores) != len(others):
    raise ValueError(f"{len(scores)} and {len(others)} rows cannot be paired")
  gains = np.asarray(scores, float) - np.asarray(others, float)
  means = _means(gains, samples)
  # One more, for the rows as they are: it is never 0.
  beyond = (min(np.sum(means <= 0), np.sum(means >= 0)) + 1) / (samples + 1)
  around = interval(gains, samples)
  return Difference(around.mean, around.low, around.high, min(1.0, 2 * float(beyond)))


def _means(scores: np.ndarray, samples: int) -> np.ndarray:
  """Returns the means of `samples` draws of as many rows, with replacement."""
  rng = np.random.default_rng(_SEED)
  count, means = len(scores), []
  for start in range(0, samples, per := max(1, _CHUNK // count)):
    size = (min(per, samples - start), count)
    means.append(scores[rng.integers(0, count, size)].mean(axis=1))
  return np.concatenate(means)

"""Lengths: how long the examples of a split are, and what was cut to make them fit."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

# Widths of a histogram's bars that are easy to read, times a power of ten.
_WIDTHS = (1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 50, 64)


class Bar(NamedTuple):
  """A bar of a histogram.

  Attributes:
    first: shortest length that it counts.
    last: longest length that it counts.
    count: examples.
  """

  first: int
  last: int
  count: int


@dataclasses.dataclass(frozen=True)
class Side:
  """The inputs or the targets of a split's examples.

  Attributes:
    name: 'inputs' or 'targets'.
    lengths: int (examples,), tokens of each, after cutting.
    limit: most tokens.
    truncated: examples that were longer and were cut; None where nobody knows.
    lost_tokens: tokens cut away; None where nobody knows.
    escape: whether what the vocabulary lacks is escaped; None where nobody knows.
  """

  name: str
  lengths: np.ndarray
  limit: int
  truncated: int | None
  lost_tokens: int | None
  escape: bool | None

  @property
  def mean(self) -> float:
    return float(self.lengths.mean())

  @property
  def longest(self) -> int:
    return int(self.lengths.max())

  def quantile(self, share: float) -> int:
    """Returns the length that this share of the examples does not exceed."""
    return int(np.quantile(self.lengths, share, method="higher"))

  @property
  def above(self) -> float | None:
    """Share of the examples that were above the limit, 0 to 1."""
    return None if self.truncated is None else self.truncated / len(self.lengths)

  @property
  def reaches_limit(self) -> bool:
    """Whether the limit is near enough to show it in a histogram of the lengths."""
    return 2 * self.longest > self.limit

  def histogram(self, most: int) -> list[Bar]:
    """Returns the bars of a histogram, up to the limit where lengths come near it.

    Args:
      most: most bars.
    """
    end = self.limit if self.reaches_limit else self.longest
    width = _width(end, most)
    count = math.ceil(end / width)
    # Bars end at multiples of the width: the limit is one more often than not.
    bins = np.bincount((np.maximum(self.lengths, 1) - 1) // width, minlength=count)
    last = [min((i + 1) * width, max(end, self.longest)) for i in range(len(bins))]
    return [Bar(i * width + 1, last[i], int(n)) for i, n in enumerate(bins)]


def _width(end: int, most: int) -> int:
  """Returns the smallest width in `_WIDTHS` with which so many bars reach the end."""
  scale = 1
  while True:
    for width in _WIDTHS:
      if width * scale * most >= end:
        return width * scale
    scale *= 10

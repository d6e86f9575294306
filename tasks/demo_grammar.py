"""Phrases with alternatives and slot values kept back for evaluation.

Before the first stage of the direction of data (text → task → tokens → ...):
the demo's four generators write their text with what is here. Pure Python.
"""

import dataclasses
import random
import re
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_INNERMOST_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
SLOT = re.compile(r"\{(\w+)\}")


@dataclasses.dataclass(frozen=True)
class Pool:
  """Values of one slot, some of which no training row ever shows.

  Attributes:
    seen: values for every split.
    unseen: values for validation and test alone.
  """

  seen: tuple[str, ...]
  unseen: tuple[str, ...]

  @classmethod
  def of(cls, seen: str, unseen: str) -> "Pool":
    """Returns a pool from two comma-separated lists."""

    def values(text: str) -> tuple[str, ...]:
      return tuple(value.strip() for value in text.split(","))

    return cls(values(seen), values(unseen))


class Draw:
  """The random draws behind one row.

  Args:
    rng: where the draws come from; `random.Random` seeded with a string gives
      the same ones on every machine.
    split: "train", "validation" or "test".
  """

  def __init__(self, rng: random.Random, split: str):
    self.rng = rng
    self.split = split

  def choice(self, options: Sequence[T]) -> T:
    return self.rng.choice(options)

  def chance(self, probability: float) -> bool:
    return self.rng.random() < probability

  def value(self, pool: Pool) -> str:
    """Returns a value of `pool`: outside training an unseen one in a quarter of draws."""
    unseen = self.split != "train" and self.chance(0.25)
    return self.choice(pool.unseen if unseen else pool.seen)

  def settle(self, pattern: str) -> str:
    """Settles every "[this|that]" of `pattern`, innermost brackets first."""
    count = 1
    while count:
      pattern, count = _INNERMOST_BRACKETS.subn(
        lambda match: self.choice(match[1].split("|")), pattern
      )
    return pattern

  def phrase(self, pattern: str, **slots: str) -> str:
    """Settles `pattern` and fills each "{slot}"; a slot in front gets a capital."""
    text = SLOT.sub(lambda match: slots[match[1]], self.settle(pattern))
    return text[:1].upper() + text[1:] if pattern.startswith("{") else text

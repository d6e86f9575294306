"""A measure: a piece of work, and the seconds it takes."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Cost:
  """What one run of a measure does; None where that means nothing.

  Attributes:
    flops: operations of its matrix products, counted in the program.
    xla_flops: all operations, by XLA's own account of what it compiled.
    input_tokens: tokens of inputs, padding not counted.
    target_tokens: tokens of targets or of answers, likewise.
    memory: bytes that a device holds at the peak.
    read_bytes: bytes that are read, or written, once.
  """

  flops: int | None = None
  xla_flops: float | None = None
  input_tokens: int | None = None
  target_tokens: int | None = None
  memory: int | None = None
  read_bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class Measure:
  """A piece of work that can be repeated.

  Attributes:
    name: for people.
    kind: 'train', 'greedy', 'beam', 'data', 'save', 'restore', 'start', 'matmul' or
      'memory'.
    cost: what it does.
    work: does it; the arrays it returns are waited for.
  """

  name: str
  kind: str
  cost: Cost
  work: Callable[[], Any]

  def seconds(self) -> float:
    """Does the work once."""
    began = time.perf_counter()
    jax.block_until_ready(self.work())
    return time.perf_counter() - began


def run_rounds(
  measures: Sequence[Measure],
  rounds: int,
  tell: Callable[[str], None],
  warm_up: bool = True,
) -> list[list[float]]:
  """Runs measures in turn, so that a noisy machine slows all alike.

  Args:
    measures: what to run.
    rounds: times that each is measured.
    tell: hears the name of what runs next.
    warm_up: whether each runs once before, to compile.

  Returns:
    The seconds of each measure, by round.
  """
  seconds = [[] for _ in measures]
  for round_number in range(0 if warm_up else 1, rounds + 1):
    for measure, taken in zip(measures, seconds, strict=True):
      when = f"round {round_number} of {rounds}" if round_number else "compiling"
      tell(f"{when}: {measure.name}")
      value = measure.seconds()
      if round_number:
        taken.append(value)
  return seconds

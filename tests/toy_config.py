"""Classes for the configuration tests to fill."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from t5tune.errors import UserError


@dataclasses.dataclass(frozen=True)
class Model:
  emb_dim: int
  dropout_rate: float = 0.1
  dtype: Literal["float32", "bfloat16"] = "float32"


@dataclasses.dataclass(frozen=True)
class Run:
  mixture: str
  train_steps: int
  learning_rate: float
  model: Model
  task_modules: Sequence[str] = ()
  mesh: dict[str, int] = dataclasses.field(default_factory=dict)
  packing: bool = True
  init: str | None = None
  lengths: tuple[int, int] = (8, 4)
  schedule: Callable[[int], float] | None = None
  teacher: Model | None = None
  seed: int = 0

  def __post_init__(self):
    if self.train_steps < 0:
      raise UserError("TRAIN_STEPS must not be negative.")


def constant(step: int, value: float = 1.0) -> float:
  """A schedule."""
  return value


@dataclasses.dataclass
class Unrelated:
  size: int = 0

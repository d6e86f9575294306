"""Draws: every random choice about a row, made from (row key, pass, seed) alone.

Never from a row's place in the stream, so any number of readers builds the same
examples. What is drawn is set by the block in which a dataset is built.
"""

import contextlib
import contextvars
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Drawing:
  """What draws depend on beside the row.

  Attributes:
    pass_index: which of a task's passes is built; epochs read different passes.
    seed: the run's data seed.
    held_out: names or tags of templates that are not drawn.
    evaluation: whether all rows take one template, and no exemplars.
    template: that template's name; None for the first.
  """

  pass_index: int = 0
  seed: int = 0
  held_out: tuple[str, ...] = ()
  evaluation: bool = False
  template: str | None = None


_DEFAULT = Drawing()
_DRAWING = contextvars.ContextVar("drawing", default=_DEFAULT)


def current() -> Drawing:
  """Returns the drawing of the enclosing block; outside any, pass 0 and seed 0."""
  return _DRAWING.get()


@contextlib.contextmanager
def _set(drawing: Drawing) -> Iterator[None]:
  token = _DRAWING.set(drawing)
  try:
    yield
  finally:
    _DRAWING.reset(token)


def training(pass_index: int = 0, seed: int = 0, held_out: Sequence[str] = ()):
  """Returns a context in which datasets draw as a training pass does.

  Args:
    pass_index: which pass.
    seed: the run's data seed.
    held_out: names or tags of templates that are not drawn.
  """
  return _set(Drawing(int(pass_index), int(seed), tuple(held_out)))


def evaluation(template: str | None = None):
  """Returns a context in which every row takes the same template, without exemplars.

  Other draws (`row_draw`) are then those of pass 0 and seed 0.

  Args:
    template: the template's name; None for a task's first.
  """
  return _set(Drawing(evaluation=True, template=template))


def row_draw(
  row_key: tf.Tensor, n: int, purpose: str, pass_index: int | None = None
) -> tf.Tensor:
  """Draws an integer for a row, for use inside a stochastic preprocessor's map.

  The pass and seed are those of the enclosing block at the time the dataset is built.

  Args:
    row_key: int64 scalar, the row's `row_key` feature.
    n: number of outcomes, a Python int or int32 scalar above 0.
    purpose: names the draw; draws for different purposes are independent.
    pass_index: another pass than the block's.

  Returns:
    int32 scalar, uniform in [0, n).
  """
  # Philox by name: the algorithm picked automatically depends on the device.
  return tf.random.stateless_uniform(
    [],
    seed=tf.stack([tf.cast(row_key, tf.int64), salt(purpose, pass_index)]),
    minval=0,
    maxval=n,
    dtype=tf.int32,
    alg="philox",
  )


def generator(row_key: int, salt: int) -> np.random.RandomState:
  """Returns a generator for one row's draws in plain Python.

  Args:
    row_key: the row's `row_key`.
    salt: from `salt`, taken when the dataset was built.
  """
  words = np.array([row_key, salt], np.int64).view(np.uint32)
  return np.random.RandomState(words)  # its stream is frozen, under any numpy


def salt(purpose: str, pass_index: int | None = None) -> int:
  """Returns 64 bits that stand for the purpose, pass and seed of a draw.

  Args:
    purpose: names the draw.
    pass_index: another pass than the block's.
  """
  drawing = current()
  turn = drawing.pass_index if pass_index is None else pass_index
  text = f"{purpose}/{turn}/{drawing.seed}"
  digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
  return int.from_bytes(digest, signed=True)

"""Repeatability: randomness that no seed and no row decides is found and named."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from t5tune import errors
from t5tune.data import index

EXAMPLES = 8  # that are built twice


def check(
  task: Any,
  split: str,
  request: index.Request,
  drawing: Callable[[], AbstractContextManager],
  first: Sequence[Mapping[str, Any]],
  again: Sequence[Mapping[str, Any]],
) -> None:
  """Compares a few examples that were built twice.

  Args:
    task: the `seqio.Task`.
    split: the split they are from.
    request: gives lengths and seed.
    drawing: gives the context in which they were built.
    first: the examples.
    again: the same, built once more.

  Raises:
    UserError: they differ; names the first step that makes them so.
  """
  if _all_same(first, again):
    return
  culprit = _unrepeatable_step(task, split, request, drawing)
  raise errors.UserError(
    f"task {task.name!r}, split {split!r}: {culprit} makes other examples each"
    " time it is run, so that a run could not be repeated or continued. Draw from the"
    " row's key with t5tune.data.drawing.row_draw, or from the seed that"
    " seqio.map_over_dataset(num_seeds=1) gives."
  )


def _unrepeatable_step(task, split: str, request: index.Request, drawing) -> str:
  """Returns the first step whose outcome differs between two runs, in words."""
  import seqio

  def rows(count: int) -> list[Any]:
    with drawing(), seqio.utils.map_seed_manager(request.seed):
      dataset = task.source.get_dataset(split=split, shuffle=False)
      dataset = task._preprocess_dataset(dataset, steps[:count], request.lengths)
      return list(dataset.take(EXAMPLES).as_numpy_iterator())

  steps = task._preprocessor_constructor_args
  for count in range(len(steps) + 1):
    if not _all_same(rows(count), rows(count)):
      return f"its preprocessor {_named(steps[count - 1])}" if count else "its source"
  return "its pipeline"


def _named(step: Any) -> str:
  function = getattr(step, "func", step)
  function = getattr(function, "__wrapped__", function)
  code = getattr(function, "__code__", None)
  name = getattr(function, "__qualname__", repr(function))
  return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name


def _all_same(some: Sequence[Mapping], others: Sequence[Mapping]) -> bool:
  return len(some) == len(others) and all(
    a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
    for a, b in zip(some, others, strict=True)
  )

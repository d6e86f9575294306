"""What was drawn for training rows: their templates, and the text of a few of them.

A training store keeps tokens alone. The draws follow from the rows' keys, so that they
are made again here, by the task's own steps but without the tokens.
"""

import contextlib
import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from t5tune.data import definitions, drawing, index, store_names, token_store
from t5tune.data.inspection import task_descriptions

_BATCH = 1024


def template_counts(task: seqio.Task, request: index.Request) -> Counter[str] | None:
  """Counts the rows of the first training pass that each template drew.

  Args:
    task: the task.
    request: gives lengths, vocabulary, seed and what is held out.

  Returns:
    Template -> rows; None for a task without templates, or one that is read from an
    offline cache.
  """
  number = task_descriptions.fill_number(task)
  if number is None or store_names.cache_dir(task) is not None:
    return None
  task = definitions.with_vocabulary(task, request.vocabulary)
  steps = task._preprocessor_constructor_args
  # Cuts and exemplars cost most of the time and have no part in the draw.
  fill = functools.partial(steps[number], cut=None, shots=None)
  with _training(task, request):
    dataset = task._preprocess_dataset(
      _rows(task), [*steps[:number], fill], request.lengths
    )
    names = dataset.map(lambda row: row["template"]).batch(_BATCH)
    counts = Counter(name for batch in names.as_numpy_iterator() for name in batch)
  return Counter({name.decode(): count for name, count in counts.items()})


def rows(
  task: seqio.Task,
  request: index.Request,
  store: token_store.TokenStore,
  records: Sequence[int],
) -> list[dict[str, Any]]:
  """Makes a few examples of the first training pass again, with all their features.

  Args:
    task: the task.
    request: gives lengths, vocabulary, seed and what is held out.
    store: the store of that pass.
    records: which of its examples, ascending.

  Returns:
    The features of each; none for those that cannot be told among the rows, as where
    a step after the template drops some.
  """
  if store_names.cache_dir(task) is not None:
    return [{} for _ in records]
  number = task_descriptions.fill_number(task) or 0
  task = definitions.with_vocabulary(task, request.vocabulary)
  steps = task._preprocessor_constructor_args
  with _training(task, request):
    dataset = task._preprocess_dataset(_rows(task), steps[:number], request.lengths)
    dataset = _only(dataset, records)
    dataset = task._preprocess_dataset(dataset, steps[number:], request.lengths)
    made = list(dataset.as_numpy_iterator())
  if len(made) != len(records):
    return [{} for _ in records]
  return [
    row if _is_same(row, tokens) else {}
    for row, tokens in zip(made, store.read(records), strict=True)
  ]


def _rows(task: seqio.Task) -> tf.data.Dataset:
  return task.source.get_dataset(split="train", shuffle=False)


@contextlib.contextmanager
def _training(task: seqio.Task, request: index.Request) -> Iterator[None]:
  """Draws inside as the first training pass does."""
  held_out = store_names.held_out(task, request)
  with (
    drawing.training(0, request.seed, held_out),
    seqio.utils.map_seed_manager(request.seed),
  ):
    yield


def _only(dataset: tf.data.Dataset, records: Sequence[int]) -> tf.data.Dataset:
  wanted = tf.constant(records, tf.int64)
  chosen = dataset.enumerate().filter(lambda i, _: tf.reduce_any(i == wanted))
  return chosen.map(lambda _, row: row)


def _is_same(row: dict[str, Any], tokens: tuple[np.ndarray, np.ndarray]) -> bool:
  return all(
    np.array_equal(row[name], stored)
    for name, stored in zip(("inputs", "targets"), tokens, strict=True)
  )

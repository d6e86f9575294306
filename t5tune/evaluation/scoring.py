"""From decoded text to scores, by the task's own postprocessor and metrics.

prediction, row -> postprocessed prediction and reference -> metric functions
"""

import functools
import inspect
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

from t5tune import errors
from t5tune.data import definitions, index


class Scorer:
  """Scores the tasks of a mixture; imports tensorflow (through seqio) to load them."""

  def __init__(self, request: index.Request):
    """Remembers where the tasks are defined.

    Args:
      request: names the task modules and the data directory.
    """
    self._request = request
    self._one_at_a_time = threading.Lock()  # a user's code may bear no other threads

  def begin(self) -> None:
    """Begins to load the tasks, in a thread; whoever needs them first waits for it.

    The imports take seconds of one core: time to decode in.
    """
    _ = self._loading

  @functools.cached_property
  def _loading(self) -> futures.Future:
    pool = futures.ThreadPoolExecutor(1)
    loading = pool.submit(definitions.load, self._request)
    pool.shutdown(wait=False)
    return loading

  @functools.cached_property
  def _tasks(self) -> dict[str, Any]:
    return {task.name: task for task, _ in self._loading.result()}

  def references(self, task: str, rows: Sequence[dict]) -> list[Any]:
    """Returns what the postprocessor makes of each row's target."""
    targets = [row["targets_pretokenized"] for row in rows]
    with self._one_at_a_time:
      return self._postprocess(task, rows, targets, True)

  def score(
    self,
    task: str,
    rows: Sequence[dict],
    references: Sequence[Any],
    predictions: Sequence[str],
  ) -> dict[str, float]:
    """Returns the scores of decoded text; the first is the task's headline.

    Args:
      task: the task's name.
      rows: the features of each row, from an evaluation store.
      references: from `references`.
      predictions: decoded text for each row.

    Raises:
      UserError: the postprocessor or a metric failed, or one takes other arguments.
    """
    with self._one_at_a_time:
      made = self._postprocess(task, rows, predictions, False)
      return self._measure(task, references, made)

  def _measure(self, task: str, references, made) -> dict[str, float]:
    scores: dict[str, float] = {}
    for metric in self._metrics(task):
      try:
        found = metric(targets=list(references), predictions=made)
        for name, value in found.items():
          scores[name] = float(getattr(value, "value", value))
      except Exception as e:
        if isinstance(e, errors.UserError):
          raise
        raise errors.UserError(
          f"task {task!r}: metric {_name(metric)} failed on {len(made)} predictions, at"
          f" {definitions.place_of(e)}: {type(e).__name__}: {e}. It must survive any"
          " predictions and give numbers by name."
        ) from e
    return scores

  def _metrics(self, task: str) -> Sequence[Callable[..., Any]]:
    try:
      found = self._tasks[task].metric_fns
    except ValueError as e:  # seqio knows none of such arguments
      raise errors.UserError(f"task {task!r}: {e}") from e
    for metric in found:
      if not {"targets", "predictions"} <= set(inspect.signature(metric).parameters):
        raise errors.UserError(
          f"task {task!r}: metric {_name(metric)} must take (targets, predictions)."
        )
    return found

  def _postprocess(self, task, rows, texts, is_target: bool) -> list[Any]:
    definition = self._tasks[task]
    made = []
    for row, text in zip(rows, texts, strict=True):
      try:
        made.append(definition.postprocess_fn(text, example=row, is_target=is_target))
      except Exception as e:
        raise errors.UserError(
          f"task {task!r}: its postprocessor failed on {text[:80]!r}:"
          f" {type(e).__name__}: {e}. It must survive any text a model can write."
        ) from e
    return made


def _name(function) -> str:
  return getattr(function, "__name__", repr(function))

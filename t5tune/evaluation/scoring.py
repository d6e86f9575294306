"""From decoded text to scores, by the task's own postprocessor and metrics.

prediction, row -> postprocessed prediction and reference -> metric functions
"""

import functools
import inspect
from collections.abc import Sequence
from typing import Any

from t5tune import errors
from t5tune.data import definitions, index


class Scorer:
  """Scores the tasks of a mixture; imports tensorflow (through seqio) on first use."""

  def __init__(self, request: index.Request):
    """Remembers where the tasks are defined.

    Args:
      request: names the task modules and the data directory.
    """
    self._request = request

  @functools.cached_property
  def _tasks(self) -> dict[str, Any]:
    return {task.name: task for task, _ in definitions.load(self._request)}

  def references(self, task: str, rows: Sequence[dict]) -> list[Any]:
    """Returns what the postprocessor makes of each row's target."""
    return self._postprocess(
      task, rows, [r["targets_pretokenized"] for r in rows], True
    )

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
    """
    made = self._postprocess(task, rows, predictions, False)
    scores: dict[str, float] = {}
    for metric in self._tasks[task].metric_fns:
      known = set(inspect.signature(metric).parameters)
      if not {"targets", "predictions"} <= known:
        raise errors.UserError(
          f"task {task!r}: metric {_name(metric)} must take (targets, predictions)."
        )
      for name, value in metric(targets=list(references), predictions=made).items():
        scores[name] = float(getattr(value, "value", value))
    return scores

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

"""What chooses among checkpoints: a metric, or several, and the best so far."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from t5tune import errors
from t5tune.evaluation import evaluator

AVERAGE = "average"
LOSS = "loss"


@dataclasses.dataclass(frozen=True)
class BestMetric:
  """One number for an evaluation; the higher, the better.

  Attributes:
    parts: metric -> weight. A metric is 'task/metric', 'task/loss', 'average' (the mean
      of the tasks' headline scores) or 'loss' (the mean of their losses). Losses and
      errors count negative.
  """

  parts: dict[str, float]

  @classmethod
  def of(cls, setting: str | Mapping[str, float]) -> "BestMetric":
    """Reads BEST_METRIC: a metric, or a dictionary of metrics and weights.

    Raises:
      UserError: it is empty, or a weight is no finite number other than zero.
    """
    if isinstance(setting, str):
      return cls({setting: 1.0})
    if not setting:
      raise errors.UserError("BEST_METRIC = {}: name at least one metric.")
    for name, weight in setting.items():
      number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
      if not number or not math.isfinite(weight) or weight == 0:
        raise errors.UserError(
          f"BEST_METRIC[{name!r}] = {weight!r}: a weight is a finite number, not 0."
        )
    return cls({name: float(weight) for name, weight in setting.items()})

  def __str__(self) -> str:
    if list(self.parts.values()) == [1.0]:
      return next(iter(self.parts))
    return " + ".join(f"{weight:g} {name}" for name, weight in self.parts.items())

  @property
  def tasks(self) -> list[str]:
    """The tasks whose metrics count by name."""
    return [name.rpartition("/")[0] for name in self._named()]

  def _named(self) -> list[str]:
    return [name for name in self.parts if name not in (AVERAGE, LOSS)]

  def check_tasks(self, scored: Sequence[str], split: str) -> None:
    """Checks the names of tasks, which are known before anything is evaluated.

    Args:
      scored: the tasks that will be.
      split: the split that they are scored on.

    Raises:
      UserError: a task is not among them.
    """
    for name, task in zip(self._named(), self.tasks, strict=True):
      if task not in scored:
        near = errors.did_you_mean(task or name, [*scored, AVERAGE, LOSS])
        raise errors.UserError(
          f"BEST_METRIC names {name!r}: give 'average', 'loss', or 'task/metric' with a"
          f" task that is scored on {split!r}.{near} There is: {', '.join(scored)}."
        )

  def check_metrics(self, measured: Mapping[str, Collection[str]]) -> None:
    """Checks the names of metrics.

    Args:
      measured: task -> its metrics, at least for `tasks`.

    Raises:
      UserError: a task has no such metric.
    """
    _check([f"{t}/{m}" for t in measured for m in (*measured[t], LOSS)], self._named())

  def score(self, results: Sequence[evaluator.TaskResult]) -> float:
    """Returns the weighted mean of the metrics of an evaluation.

    Args:
      results: the evaluation.

    Raises:
      UserError: a metric was not measured.
    """
    values = {f"{r.task}/{k}": v for r in results for k, v in r.scores.items()}
    values |= {f"{r.task}/{LOSS}": r.loss for r in results}
    values[AVERAGE] = average_score(results)
    values[LOSS] = sum(r.loss for r in results) / len(results)
    _check(values, self.parts)
    total = sum(w * sign(n) * values[n] for n, w in self.parts.items())
    return total / sum(map(abs, self.parts.values()))


def average_score(results: Sequence[evaluator.TaskResult]) -> float:
  """Returns the mean of the tasks' headline scores."""
  return sum(result.headline[1] for result in results) / len(results)


def sign(name: str) -> int:
  """Returns 1 for a metric that is better when higher, -1 for a loss or an error.

  Args:
    name: 'metric' or 'task/metric'.
  """
  metric = name.rpartition("/")[2]  # not of the task, whose name may say 'error'
  return -1 if metric == LOSS or "error" in metric else 1


def _check(measured: Collection[str], wanted: Collection[str]) -> None:
  for name in wanted:
    if name not in measured:
      known = [m for m in measured if m not in (AVERAGE, LOSS)]
      raise errors.UserError(
        f"BEST_METRIC names {name!r}, which is not measured."
        f"{errors.did_you_mean(name, measured)} There is: 'average', 'loss',"
        f" {', '.join(map(repr, known))}."
      )


@dataclasses.dataclass(frozen=True)
class Best:
  """The best evaluation so far; kept in every checkpoint.

  Attributes:
    by: what ranks, in words.
    score: its score, or None before the first.
    step: its step.
    since: evaluations since then.
  """

  by: str
  score: float | None = None
  step: int = 0
  since: int = 0

  def after(self, score: float, step: int) -> "Best":
    """Returns the best once an evaluation is known.

    Of equal scores the first is the best, and a score that is no number never is.

    Args:
      score: the evaluation's.
      step: its step.
    """
    better = math.isfinite(score) and (self.score is None or score > self.score)
    if better:
      return Best(self.by, score, step)
    return dataclasses.replace(self, since=self.since + 1)

  def restored(self, kept: Mapping[str, Any]) -> "Best":
    """Returns the best that a checkpoint kept, if it was ranked alike."""
    return Best(**kept) if kept["by"] == self.by else self

  def ended(self, early_stopping: int | None) -> bool:
    """Whether too many evaluations in a row were no better."""
    return early_stopping is not None and self.since >= early_stopping

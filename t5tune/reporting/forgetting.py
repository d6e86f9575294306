"""What was gained and what was forgotten: tasks × checkpoints, and a plain sentence."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from t5tune.evaluation import bootstrap, checkpoint_choice
from t5tune.reporting import records


@dataclasses.dataclass(frozen=True)
class Cell:
  """The score of a task at a checkpoint.

  Attributes:
    value: its headline score.
    change: by how much it is better than in the first column, in points of the score
      (negative: worse); None where that one has none.
    interval: the change with its 95 % interval over rows; None where rows cannot be
      paired, or the score is not their mean.
  """

  value: float
  change: float | None
  interval: bootstrap.Difference | None


@dataclasses.dataclass(frozen=True)
class Column:
  """A checkpoint of a run.

  Attributes:
    run: the run.
    step: the step.
  """

  run: records.Record
  step: int


@dataclasses.dataclass(frozen=True)
class Matrix:
  """Scores of tasks at checkpoints.

  Attributes:
    tasks: (task, its headline metric).
    columns: the checkpoints, in time.
    cells: (row, column) -> cell; some may be missing.
  """

  tasks: list[tuple[str, str]]
  columns: list[Column]
  cells: dict[tuple[int, int], Cell]


def matrix(runs: Sequence[records.Record]) -> Matrix:
  """Lays the scores of runs out by task and checkpoint.

  Args:
    runs: the runs, the first to be trained first.
  """
  columns = [Column(run, e.step) for run in runs for e in run.evaluations]
  summaries = [e.tasks for run in runs for e in run.evaluations]
  tasks: dict[str, str] = {}
  for found in summaries:
    for name, summary in found.items():
      tasks.setdefault(name, next(iter(summary["scores"])))
  cells = {}
  for row, (task, metric) in enumerate(tasks.items()):
    with_it = [i for i, s in enumerate(summaries) if metric in _scores(s, task)]
    first = with_it[0]
    for i in with_it:
      value = summaries[i][task]["scores"][metric]
      change = interval = None
      if i != first:
        change = gain(metric, value, summaries[first][task]["scores"][metric])
        interval = paired(columns[i], columns[first], task, metric, change)
      cells[row, i] = Cell(value, change, interval)
  return Matrix(list(tasks.items()), columns, cells)


def _scores(summaries, task: str) -> dict[str, float]:
  return summaries.get(task, {}).get("scores", {})


def gain(metric: str, value: float, before: float) -> float:
  """Returns by how much a score is better than another; see `checkpoint_choice.sign`."""
  return checkpoint_choice.sign(metric) * (value - before)


def row_scores(column: Column, task: str, metric: str) -> dict[str, float]:
  """Returns the score of each row, by its input; {} where rows have none."""
  rows = column.run.predictions(task, column.step)
  if any(metric not in (row.get("scores") or {}) for row in rows):
    return {}
  return {row["input"]: row["scores"][metric] for row in rows}


def paired(
  column: Column, other: Column, task: str, metric: str, change: float
) -> bootstrap.Difference | None:
  """Returns a change with its interval over rows, where it is their mean.

  Args:
    column: the checkpoint that changed.
    other: the one before.
    task: the task.
    metric: its score.
    change: the change as it was measured on the whole.
  """
  after, before = (row_scores(c, task, metric) for c in (column, other))
  if not after or after.keys() != before.keys():
    return None
  one, two = (np.array([scores[k] for k in after]) for scores in (after, before))
  better = checkpoint_choice.sign(metric)
  found = bootstrap.difference(better * one, better * two)
  # Of BLEU or F1 over a corpus, the score is not the mean of its rows'.
  return found if abs(found.mean - change) < 1e-6 else None


def sentence(run: records.Record) -> str:
  """Says in a sentence what a run gained and lost from its first to its last evaluation.

  Tasks that the run trained on come first; the others are "elsewhere".

  Args:
    run: the run.
  """
  first, last = run.evaluations[0], run.evaluations[-1]
  if first.step == last.step:
    return (
      f"{run.name}: only step {last.step} was evaluated, so nothing can be compared."
    )
  changes = {}
  for task, summary in last.tasks.items():
    metric = next(iter(summary["scores"]))
    before = _scores(first.tasks, task).get(metric)
    if before is not None:
      changes[task] = gain(metric, summary["scores"][metric], before)
  inside = {t: c for t, c in changes.items() if t in run.trained}
  outside = {t: c for t, c in changes.items() if t not in run.trained}
  parts = [_part(inside, _where(inside)), _part(outside, _elsewhere(outside))]
  parts = [part for part in parts if part]
  worst = min(changes, key=changes.get, default=None)
  said = f"{run.name}: {', '.join(parts) or 'nothing can be compared'}"
  if worst is not None and len(changes) > 2 and changes[worst] < 0:
    said += f"; most on {worst}, {_number(changes[worst])}"
  return said + "."


def _part(changes: dict[str, float], where: str) -> str:
  if not changes:
    return ""
  mean = float(np.mean([*changes.values()]))
  return f"{'gained' if mean >= 0 else 'lost'} {abs(mean):.1f} {where}"


def _where(changes: dict[str, float]) -> str:
  if len(changes) == 1:
    return f"on {next(iter(changes))}"
  return f"on average over the {len(changes)} tasks it trained on"


def _elsewhere(changes: dict[str, float]) -> str:
  return "elsewhere" + (f" (mean of {len(changes)} tasks)" if len(changes) > 1 else "")


def _number(value: float) -> str:
  return f"{value:+.1f}".replace("-", "−")

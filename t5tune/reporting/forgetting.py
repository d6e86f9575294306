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

  The scores before a run's training are not shown again where they are those of an
  earlier column, with which it began.

  Args:
    runs: the runs, the first to be trained first.
  """
  columns, summaries, shown = [], [], []
  for run in runs:
    for e in run.evaluations:
      # Baselines aside, which depend on what a run trained on.
      scores = {task: (s["scores"], s["loss"]) for task, s in e.tasks.items()}
      if e.step or scores not in shown:
        columns.append(Column(run, e.step))
        summaries.append(e.tasks)
        shown.append(scores)
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


def row_scores(column: Column, task: str, metric: str) -> tuple[list, list[float]]:
  """Returns each row's input with its references, and its score; [] without scores."""
  rows = column.run.predictions(task, column.step)
  scores = [(row.get("scores") or {}).get(metric) for row in rows]
  if not all(isinstance(score, int | float) for score in scores):
    return [], []
  return [(row["input"], row["references"]) for row in rows], scores


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
  rows, after = row_scores(column, task, metric)
  others, before = row_scores(other, task, metric)
  if not rows or rows != others:
    return None
  one, two = np.array(after), np.array(before)
  better = checkpoint_choice.sign(metric)
  found = bootstrap.difference(better * one, better * two)
  # Of BLEU or F1 over a corpus, the score is not the mean of its rows'.
  return found if abs(found.mean - change) < 1e-6 else None


def sentence(run: records.Record, earlier: Sequence[records.Record] = ()) -> str:
  """Says in a sentence what a run gained and lost until its last evaluation.

  A task is compared with the run's first evaluation, or where that lacks the task, with
  the last evaluation of an earlier run that has it. Tasks that the run trained on come
  first; the others are "elsewhere".

  Args:
    run: the run.
    earlier: the runs before it, in their order.
  """
  last = run.evaluations[-1]
  places = [run.evaluations[0]] if len(run.evaluations) > 1 else []
  places += [e for r in reversed(earlier) for e in reversed(r.evaluations)]
  changes = {}
  for task, summary in last.tasks.items():
    metric = next(iter(summary["scores"]))
    before = (_scores(e.tasks, task).get(metric) for e in places)
    found = next((value for value in before if value is not None), None)
    if found is not None:
      changes[task] = gain(metric, summary["scores"][metric], found)
  if not changes:
    return (
      f"{run.name}: only step {last.step} was evaluated, so nothing can be compared."
    )
  inside = {t: c for t, c in changes.items() if t in run.trained}
  outside = {t: c for t, c in changes.items() if t not in run.trained}
  parts = [_part(inside, _where(inside)), _part(outside, _elsewhere(outside))]
  parts = [part for part in parts if part]
  worst = min(changes, key=changes.get, default=None)
  said = f"{run.name}: {', '.join(parts)}"
  if worst is not None and len(changes) > 2 and changes[worst] < 0:
    said += f"; most on {worst}, {_number(changes[worst])}"
  return said + "."


def sentences(runs: Sequence[records.Record], siblings: bool = False) -> list[str]:
  """Returns the sentence of each run.

  Args:
    runs: the runs, the first to be trained first.
    siblings: whether all but the first are compared with the first, not with each other.
  """
  return [sentence(r, runs[: min(i, 1) if siblings else i]) for i, r in enumerate(runs)]


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

"""Human, before and after side by side, row by row."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from t5tune.reporting import forgetting, records

MOST_ROWS = 120  # of a task that a page shows
_WORST = 20  # of these, rows that lost most
_WORD = re.compile(r"\w+|\W+")


@dataclasses.dataclass(frozen=True)
class Row:
  """A row as it was answered.

  Attributes:
    source: what the model was given, without the instruction where that is known.
    humans: the references.
    before: the answer before training, or None.
    after: the answer after training.
    score: the headline score of `after`, or None.
    gain: by how much it is better than that of `before`, or None.
  """

  source: str
  humans: list[str]
  before: str | None
  after: str
  score: float | None
  gain: float | None


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Rows of a task, the worst regressions first.

  Attributes:
    task: the task.
    metric: its headline score.
    rows: the rows shown.
    total: how many there are.
  """

  task: str
  metric: str
  rows: list[Row]
  total: int


def of_run(run: records.Record) -> list[Comparison]:
  """Returns the rows of every task at the last evaluation, beside those of the first."""
  first, last = run.evaluations[0], run.evaluations[-1]
  made = []
  for task, summary in last.tasks.items():
    metric = next(iter(summary["scores"]))
    after = run.predictions(task, last.step)
    before = run.predictions(task, first.step) if first.step != last.step else []
    same = [r["input"] for r in before] == [r["input"] for r in after]
    pairs = zip(after, before if same else [None] * len(after), strict=True)
    rows = [_row(row, old, metric) for row, old in pairs]
    if rows:
      made.append(Comparison(task, metric, _chosen(rows), len(rows)))
  return made


def _row(row: dict, before: dict | None, metric: str) -> Row:
  score = (row.get("scores") or {}).get(metric)
  old = ((before or {}).get("scores") or {}).get(metric)
  gain = None
  if score is not None and old is not None:
    gain = forgetting.gain(metric, score, old)
  humans = row["references"]
  texts = humans if humans and all(isinstance(h, str) for h in humans) else None
  return Row(
    source=row.get("dialogue") or row["input"],
    humans=texts or [row.get("targets_pretokenized", str(humans))],
    before=before["prediction"] if before else None,
    after=row["prediction"],
    score=score,
    gain=gain,
  )


def _chosen(rows: Sequence[Row]) -> list[Row]:
  """Returns the rows that lost most, and others spread evenly, sorted by their gain."""
  ranked = sorted(rows, key=lambda r: 0.0 if r.gain is None else r.gain)
  if len(ranked) <= MOST_ROWS:
    return ranked
  rest = np.linspace(_WORST, len(ranked) - 1, MOST_ROWS - _WORST).round().astype(int)
  return [*ranked[:_WORST], *(ranked[i] for i in rest)]


def marked(text: str, humans: Sequence[str]) -> list[tuple[str, bool]]:
  """Parts an answer into pieces, with whether a human's answer lacks the words.

  Args:
    text: the answer.
    humans: the references.
  """
  known = {w.lower() for human in humans for w in _WORD.findall(human)}
  pieces: list[tuple[str, bool]] = []
  for part in _WORD.findall(text):
    is_word = part[0].isalnum() or part[0] == "_"
    lacks = is_word and part.lower() not in known
    if pieces and (pieces[-1][1] == lacks or not is_word):
      pieces[-1] = (pieces[-1][0] + part, pieces[-1][1])
    else:
      pieces.append((part, lacks))
  return pieces

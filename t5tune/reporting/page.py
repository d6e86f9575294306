"""The report as one HTML file that needs nothing beside it, and as Markdown."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jinja2
import markupsafe

from t5tune import errors
from t5tune.data import inspection
from t5tune.reporting import comparisons, forgetting, plots, records
from t5tune.training import workdir

_STRONGEST = 55  # per cent of a cell's colour
_FULL = 20.0  # points of change from which on a cell has its strongest colour


@dataclasses.dataclass(frozen=True)
class ScoreLine:
  """A metric of a task before and after a run; the task's first line says the rest.

  The last is the loss of a target token in nats; what is constant there is a unigram
  model's.
  """

  task: str
  split: str
  rows: int | str
  metric: str
  constant: float | None
  before: float | None
  after: float
  change: str
  mean_length: float | None
  at_cap: float | None


def score_lines(run: records.Record) -> list[ScoreLine]:
  """Returns the scores of a run's last evaluation beside those of its first."""
  first, last = run.evaluations[0], run.evaluations[-1]
  columns = [forgetting.Column(run, e.step) for e in (last, first)]
  lines = []
  for task, summary in last.tasks.items():
    old = first.tasks.get(task, {}) if first is not last else {}
    loss = {"loss": summary["loss"]}
    for metric, value in {**summary["scores"], **loss}.items():
      before = {**old.get("scores", {}), "loss": old.get("loss")}.get(metric)
      constants = {**(summary["constant"] or {}), "loss": summary["unigram_loss"]}
      change = ""
      if before is not None:
        gained = forgetting.gain(metric, value, before)
        cell = forgetting.Cell(
          value, gained, forgetting.paired(*columns, task, metric, gained)
        )
        change = _change(cell)
      is_first = metric == next(iter(summary["scores"]))
      lines.append(
        ScoreLine(
          task=task if is_first else "",
          split=summary["split"] if is_first else "",
          rows=summary["rows"] if is_first else "",
          metric=metric,
          constant=constants.get(metric),
          before=before,
          after=value,
          change=change,
          mean_length=summary["mean_length"] if is_first else None,
          at_cap=summary["at_cap"] if is_first else None,
        )
      )
  return lines


def html(runs: Sequence[records.Record], siblings: bool = False) -> str:
  """Returns the report as a page.

  Args:
    runs: the runs, the first to be trained first.
    siblings: see `forgetting.sentences`.
  """
  folders = [pathlib.Path(__file__).parent, pathlib.Path(inspection.__file__).parent]
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(folders),
    undefined=jinja2.StrictUndefined,
    autoescape=True,
  )
  return environment.get_template("report.html").render(
    title=f"What {_joined([run.name for run in runs])} learnt",
    sentences=forgetting.sentences(runs, siblings),
    profile=f"ROUGE profile {runs[0].evaluations[0].rouge}",
    matrix=forgetting.matrix(runs),
    several=len(runs) > 1,
    runs=[
      {
        "record": run,
        "scores": score_lines(run),
        "charts": plots.of_run(run),
        "comparisons": comparisons.of_run(run),
      }
      for run in runs
    ],
    **{"shade": _shade, "change": _change, "number": _number, "signed": _signed},
    answer=_answer,
  )


def markdown(runs: Sequence[records.Record]) -> str:
  """Returns sentences, scores and the matrix as Markdown, for papers and reviews.

  Args:
    runs: the runs, the first to be trained first.
  """
  lines = [f"{said}\n" for said in forgetting.sentences(runs)]
  made = forgetting.matrix(runs)
  heads = ["task", "metric"]
  for column in made.columns:
    name = f"{column.run.name}, " if len(runs) > 1 else ""
    heads.append(f"{name}step {column.step:,}")
  lines += [_line(heads), _line(["---", "---", *["---:"] * len(made.columns)])]
  for row, (task, metric) in enumerate(made.tasks):
    cells = [made.cells.get((row, i)) for i in range(len(made.columns))]
    lines.append(_line([task, metric, *map(_markdown_cell, cells)]))
  for run in runs:
    lines += ["", f"{run.name}, all metrics", ""]
    lines.append(_line(["task", "metric", "constant", "before", "after", "change"]))
    lines.append(_line(["---", "---", *["---:"] * 4]))
    for s in score_lines(run):
      numbers = [_number(n) for n in (s.constant, s.before, s.after)]
      lines.append(_line([s.task, s.metric, *numbers, s.change]))
  lines += ["", f"ROUGE profile: `{runs[0].evaluations[0].rouge}`", ""]
  return "\n".join(lines)


def _joined(names: Sequence[str]) -> str:
  *first, last = names
  return f"{', '.join(first)} and {last}" if first else last


def write(file: pathlib.Path, text: str) -> None:
  """Writes a report; it appears complete or not at all.

  Raises:
    UserError: it cannot be written.
  """
  try:
    workdir.write_atomically(file, text)
  except errors.UserError as e:
    raise errors.UserError(
      f"the report cannot be written to {file}: {e.__cause__}. Name another file."
    ) from e


def _line(cells: Sequence[str]) -> str:
  escaped = (cell.replace("|", "\\|") for cell in cells)
  return f"| {' | '.join(escaped)} |"


def _markdown_cell(cell: forgetting.Cell | None) -> str:
  if cell is None:
    return ""
  change = "" if cell.change is None else f" ({_change(cell)})"
  return f"{cell.value:.2f}{change}"


def _change(cell: forgetting.Cell) -> str:
  text = _signed(cell.change)
  if cell.interval is not None:
    half = (cell.interval.high - cell.interval.low) / 2
    text += f" ± {half:.2f}"
  return text


def _signed(value: float) -> str:
  return f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")  # no negative zero


def _number(value: float | None) -> str:
  return "" if value is None else f"{value:.2f}"


def _shade(cell: forgetting.Cell) -> dict[str, Any]:
  if cell.change is None:
    return {"side": "", "much": 0}
  much = round(_STRONGEST * min(1.0, abs(cell.change) / _FULL))
  return {"side": "up" if cell.change >= 0 else "down", "much": much}


def _answer(text: str, humans: Sequence[str]) -> markupsafe.Markup:
  """Returns an answer with the words marked that no human's answer has."""
  pieces = comparisons.marked(text, humans)
  marks = [
    markupsafe.Markup("<mark>{}</mark>").format(p) if lacks else markupsafe.escape(p)
    for p, lacks in pieces
  ]
  return markupsafe.Markup("").join(marks) or markupsafe.Markup(
    '<span class="faint">(empty)</span>'
  )

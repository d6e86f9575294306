"""Inspection as a page: one HTML file that needs nothing beside it."""

import os
import pathlib
import tempfile
from typing import Any

import jinja2

from t5tune import errors
from t5tune.data.inspection import words
from t5tune.data.inspection.lengths import Side

_BARS = 40
# Of a chart, in its own units.
_WIDTH, _HEIGHT = 460, 190
_LEFT, _RIGHT, _TOP, _FLOOR = 44, 442, 26, 166


def write(file: pathlib.Path, **shown: Any) -> None:
  """Writes a page; it appears complete or not at all.

  Args:
    file: the page.
    **shown: `listing`, a `task_descriptions.Listing`; or `inspections`, a list of
      `facts.Inspection`; or `batch`, a `run_batches.RunBatch`, and `row`, the only row
      of it to show or None.

  Raises:
    UserError: it cannot be written.
  """
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
    undefined=jinja2.StrictUndefined,
    autoescape=True,
  )
  page = environment.get_template("page.html").render(
    title=_title(shown),
    words=words,
    chart=chart,
    **shown,
  )
  try:
    file.parent.mkdir(parents=True, exist_ok=True)
    # A folder, since it takes a half-written file away with it.
    with tempfile.TemporaryDirectory(prefix=".", dir=file.parent) as scratch:
      written = pathlib.Path(scratch) / file.name
      written.write_text(page, encoding="utf-8")
      os.replace(written, file)
  except OSError as e:
    raise errors.UserError(
      f"--html={file} cannot be written: {e.strerror or e}. Name another file."
    ) from e


def _title(shown: dict[str, Any]) -> str:
  if "batch" in shown:
    return words.batch(shown["batch"])
  if "inspections" in shown:
    return "Data of " + ", ".join(seen.name for seen in shown["inspections"])
  return "Tasks and mixtures"


def chart(side: Side) -> dict[str, Any]:
  """Returns where the parts of a histogram stand.

  Args:
    side: the lengths.

  Returns:
    `bars` (x, y, width, height, title), `x_ticks` and `y_ticks` (at, name), `limit`
    (x, or None where it lies beyond) and the edges of the drawing.
  """
  bars = side.histogram(_BARS)
  width = bars[0].last - bars[0].first + 1
  end = width * len(bars)
  most = max(bar.count for bar in bars)
  total = len(side.lengths)

  def x(length: float) -> float:
    return round(_LEFT + (_RIGHT - _LEFT) * length / end, 1)

  def y(count: float) -> float:
    return round(_FLOOR - (_FLOOR - _TOP) * count / most, 1)

  drawn = [
    {
      "x": x(bar.first - 1),
      "y": y(bar.count),
      "width": round(x(bar.first - 1 + width) - x(bar.first - 1) - 1, 1),
      "height": round(_FLOOR - y(bar.count), 1),
      "title": f"{bar.first} to {bar.last} tokens: {bar.count:,} examples"
      f" ({words.percent(bar.count / total)})",
    }
    for bar in bars
    if bar.count
  ]
  every = max(1, len(bars) // 8)
  ticks = [width * i for i in range(0, len(bars) + 1, every)]
  return {
    "width": _WIDTH,
    "height": _HEIGHT,
    "left": _LEFT,
    "right": _RIGHT,
    "top": _TOP,
    "floor": _FLOOR,
    "bars": drawn,
    "x_ticks": [{"at": x(length), "name": f"{length:,}"} for length in ticks],
    "y_ticks": [
      {"at": y(most * part), "name": words.percent(most * part / total)}
      for part in (0.5, 1)
    ],
    "limit": x(side.limit) if side.limit <= end else None,
  }

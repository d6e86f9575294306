"""Curves of a run as SVG, readable on light and dark pages and in print."""

import contextlib
import dataclasses
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
from matplotlib import figure, ticker

from t5tune.reporting import records

GREY = "#7b8494"
COLOURS = ("#3f6fb5", "#c2622d", "#3c8d5a", "#9a5fb0", "#b39a2c", "#3a98a8", "#b54a6a")
_STYLE = {
  **{"svg.fonttype": "none", "font.size": 10, "font.family": "sans-serif"},
  **{"axes.edgecolor": GREY, "axes.labelcolor": GREY, "text.color": GREY},
  **{"xtick.color": GREY, "ytick.color": GREY, "axes.titlesize": 11},
  **{"axes.spines.top": False, "axes.spines.right": False},
}
Series = tuple[str, Sequence[float], Sequence[float]]  # name, steps, values


def of_run(run: records.Record) -> list[tuple[str, str]]:
  """Returns the curves of a run: (what it shows, SVG).

  Args:
    run: the run.
  """
  charts = []
  losses = _logged(run, "loss")
  held_out = [
    (task, [e["step"] for e in found], [e["loss"] for e in found])
    for task, found in run.validation.items()
  ]
  if losses[1]:
    series = [("training", *losses[1:])]
    charts.append(("Loss of a target token during training, in nats", series))
  if any(len(steps) > 1 for _, steps, _ in held_out):
    charts.append(("Loss on the validation split, in nats", held_out))
    scored = [_headline(run, task) for task in run.validation]
    charts.append(("Headline score on the validation split", scored))
  rates = _logged(run, "learning_rate")
  if len(set(rates[2])) > 1:
    charts.append(("Learning rate", [("rate", *rates[1:])]))
  names = [f"{run.name}-{number}" for number in range(len(charts))]
  return [
    (title, _svg(series, name))
    for (title, series), name in zip(charts, names, strict=True)
  ]


def _logged(run: records.Record, name: str) -> Series:
  lines = [line for line in run.train if line.get(name) is not None]
  return name, [line["step"] for line in lines], [line[name] for line in lines]


def _headline(run: records.Record, task: str) -> Series:
  """Returns a task's first score; a line of metrics keeps the order of the scores."""
  about = {"step", "kind", "purpose", "split", "task", "loss", "mean_length"}
  found = run.validation[task]
  metric = next(key for key in found[0] if key not in about)
  steps = [line["step"] for line in found]
  return f"{task}, {metric}", steps, [line[metric] for line in found]


def _svg(series: Sequence[Series], name: str) -> str:
  """Draws lines over steps."""
  with picture(name, (6, 2.8)) as (axes, drawn):
    for number, (label, steps, values) in enumerate(series):
      axes.plot(
        steps,
        values,
        label=label,
        color=COLOURS[number % len(COLOURS)],
        linestyle="-" if number < len(COLOURS) else "--",
        linewidth=1.5,
        marker="o" if len(steps) < 40 else None,
        markersize=3,
      )
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, nbins=7))
    if len(series) > 1:
      axes.legend(frameon=False, fontsize=9, ncols=2)
  return drawn.text


@dataclasses.dataclass
class Drawn:
  """A picture that `picture` has finished.

  Attributes:
    text: the SVG, as wide as its place.
  """

  text: str = ""


@contextlib.contextmanager
def picture(name: str, size: tuple[float, float]) -> Iterator[tuple[Any, Drawn]]:
  """Gives axes to draw on; equal drawings give equal text.

  Args:
    name: keeps the names inside the picture apart from those of others on a page.
    size: width and height, in inches.

  Yields:
    The axes, and what holds the picture afterwards.
  """
  drawn = Drawn()
  with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
    drawing = figure.Figure(figsize=size, layout="constrained")
    axes = drawing.subplots()
    yield axes, drawn
    axes.grid(color=GREY, alpha=0.25, linewidth=0.6)
    out = io.StringIO()
    drawing.savefig(out, format="svg", transparent=True, metadata={"Date": None})
  text = out.getvalue()
  text = text[text.index("<svg") :]
  # As wide as its place; the height follows.
  sized = re.compile(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"')
  drawn.text = sized.sub(r"\1", text, count=1)

"""The mixture as a table: what a run will see of each task, and what is lost of it."""

import collections
import dataclasses
import json

from rich.console import Console
from rich.table import Table
from rich.text import Text

from t5tune.data import feed, feed_summary

_UNKNOWN = "?"  # not every pipeline tells
_MOST_CHARACTERS = 3


def to_json(
  mixture: str, data: feed.Feed, train_steps: int, lengths_chosen: bool
) -> str:
  """Returns what `print_mixture` shows, as JSON; see `print_mixture`."""
  values = {
    "mixture": mixture,
    "train_steps": train_steps,
    "lengths_chosen": lengths_chosen,
    **dataclasses.asdict(data.summary(train_steps)),
  }
  return json.dumps(values, indent=1) + "\n"


def print_mixture(
  console: Console,
  mixture: str,
  data: feed.Feed,
  train_steps: int,
  lengths_chosen: bool,
) -> None:
  """Prints each task's examples, rate, epochs and losses, and what a batch holds.

  Args:
    console: where to print.
    mixture: the mixture's name.
    data: the feed.
    train_steps: updates of the run.
    lengths_chosen: whether the lengths of packed rows were chosen from the stored
      lengths, not set by the user.
  """
  summary = data.summary(train_steps)
  console.print(_shares(mixture, summary))
  console.print(_losses(summary))
  lines = [f"skipped ({t.name}): {why}" for t in summary.tasks for why in t.skip_report]
  lines += [
    f"{train_steps:,} steps = {train_steps / summary.steps_per_epoch:.2f} epochs of the"
    f" mixture; an update has {summary.examples_per_batch:,.1f} examples and"
    f" {summary.target_tokens_per_batch:,.0f} target tokens on average.",
    _rows(summary, data.config.pack, lengths_chosen),
  ]
  for line in lines:
    console.print(line, highlight=False, markup=False)


def _table(title: str, columns: tuple[str, ...]) -> Table:
  table = Table(title=title, title_justify="left")
  table.add_column("task", overflow="fold")
  for name in columns:
    table.add_column(name, justify="right")
  return table


def _shares(mixture: str, summary: feed_summary.FeedSummary) -> Table:
  """What there is of each task and how much of it is fed."""
  columns = ("rows", "skipped", "examples", "rate", "of all\nexamples")
  columns += ("of target\ntokens", "epochs", "passes")
  table = _table(f"Mixture {mixture}", columns)
  for task in summary.tasks:
    table.add_row(
      task.name,
      _count(task.rows),
      _count(task.skipped),
      _count(task.examples),
      f"{task.rate:,.6g}",
      f"{task.share:.1%}",
      f"{task.token_share:.1%}",
      f"{task.epochs:.2f}",
      str(task.passes),
    )
  return table


def _losses(summary: feed_summary.FeedSummary) -> Table:
  """What of each task's text does not reach the model."""
  columns = ("inputs\ncut", "tokens\nlost", "targets\ncut", "tokens\nlost")
  columns += ("characters\nlost",)
  table = _table(
    "Lost in a pass over each task: what is cut, what the vocabulary lacks", columns
  )
  table.add_column("most frequent")
  for task in summary.tasks:
    table.add_row(
      task.name,
      _percent(task.truncated_inputs),
      _count(task.lost_input_tokens),
      _percent(task.truncated_targets),
      _count(task.lost_target_tokens),
      _characters(task.lost_characters),
      Text(_most_frequent(task.lost_characters or {})),
    )
  return table


def _rows(summary: feed_summary.FeedSummary, pack: bool, chosen: bool) -> str:
  """Says how long rows are and how much of them is no padding."""
  shapes = [f"{s} + {t}" for s, t, _ in summary.row_shapes]
  if pack:
    how = "chosen from the stored lengths" if chosen else "as set"
    rows = f"Packed rows of {shapes[0]} tokens ({how})"
  else:
    shares = [
      f"{shape} ({share:.0%})"
      for shape, (_, _, share) in zip(shapes, summary.row_shapes, strict=True)
    ]
    rows = f"One example a row; batches of {', '.join(shares)} tokens"
  return (
    f"{rows} are {summary.density:.1%} full: inputs {summary.input_density:.1%},"
    f" targets {summary.target_density:.1%}."
  )


def _count(value: int | None) -> str:
  return _UNKNOWN if value is None else f"{value:,}"


def _percent(value: float | None) -> str:
  if value is None:
    return _UNKNOWN
  return "<0.1%" if 0 < value < 0.0005 else f"{value:.1%}"


def _characters(counts: dict[str, int] | None) -> str:
  return _count(None if counts is None else sum(counts.values()))


def _most_frequent(counts: dict[str, int]) -> str:
  common = collections.Counter(counts).most_common(_MOST_CHARACTERS)
  return "  ".join(f"{_printable(c)} {n:,}" for c, n in common)


def _printable(character: str) -> str:
  visible = character.isprintable() and not character.isspace()
  return character if visible else character.encode("unicode_escape").decode()

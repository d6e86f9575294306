"""Inspection on a terminal: prints what the other modules gathered."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from t5tune.data import mixture_table
from t5tune.data.inspection import facts, run_batches, words
from t5tune.data.inspection.lengths import Side

_BARS = 10
_BAR_WIDTH = 16


def print_listing(console: Console, listing: Any) -> None:
  """Prints all registered tasks and mixtures.

  Args:
    console: where to print.
    listing: a `task_descriptions.Listing`.
  """
  table = _table("task and source", "rows", "templates and further", "metrics")
  table.columns[1].justify = "right"
  for column in (0, 1, 3):
    table.columns[column].no_wrap = True
  for task in listing.tasks:
    table.add_row(
      Group(Text(task.name, "bold"), Text(task.source, "dim")),
      _rows(task),
      Group(words.templates(task), Text("; ".join(task.uses), "dim")),
      "\n".join(task.metrics) or "none",
    )
  _title(console, f"Tasks of {', '.join(listing.modules)}")
  console.print(table)
  for line in words.problems(listing):
    _line(console, line)
  if listing.mixtures:
    _title(console, "Mixtures")
    table = _table("mixture", "share of the examples")
    for mixture in listing.mixtures:
      table.add_row(Text(mixture.name, "bold"), words.shares(mixture))
    console.print(table)


def _rows(task: Any) -> str:
  if task.lacks:
    return f"no data: {task.lacks}"
  return "\n".join(f"{s} {words.count(n):>7}" for s, n in task.rows.items())


def print_inspection(console: Console, seen: facts.Inspection) -> None:
  """Prints what there is to see of a task or mixture."""
  if seen.is_mixture:
    mixture_table.print_mixture(
      console, seen.name, seen.data, seen.train_steps, seen.lengths_chosen
    )
    _title(console, "Splits")
    _print_splits(console, seen.pairs)
  else:
    for task in seen.tasks:
      _print_task(console, task)
  _title(console, "How full the rows of a batch are")
  table = _table("way", "tokens of a row", "inputs", "targets", "both", "")
  for fill in seen.fills:
    table.add_row(
      fill.way,
      words.shapes(fill),
      *(f"{share:.1%}" for share in (fill.inputs, fill.targets, fill.both)),
      "in use" if fill.chosen else "",
    )
  for column in table.columns[2:5]:
    column.justify = "right"
  console.print(table)


def _print_task(console: Console, task: facts.InspectedTask) -> None:
  described = task.description
  _title(console, f"Task {described.name}")
  for name, value in words.traits(described):
    _line(console, f"{name:<10}{value}")
  _title(console, "Splits")
  _print_splits(console, task.pairs)
  for split in task.splits:
    if split.lost_characters:
      _line(console, f"{split.name}: {words.lost_characters(split)}")
  for split in task.splits:
    _title(console, f"Lengths in tokens: {words.split(split)}")
    grid = Table.grid(padding=(0, 4))
    grid.add_row(_histogram(split.inputs), _histogram(split.targets))
    console.print(grid)
  if described.templates:
    _print_templates(console, task)
  for number, example in enumerate(task.examples, start=1):
    title = f"Training example {number} of {len(task.examples)}"
    _title(console, f"{title}: {words.example(example)}")
    for text in (example.inputs, example.targets):
      _print_text(console, text)


def _print_splits(
  console: Console, splits: Sequence[tuple[facts.InspectedTask, facts.Split]]
) -> None:
  """Prints a line a split; of a mixture, rows stand in the mixture table above."""
  several = len({task.description.name for task, _ in splits}) > 1
  first = ("task", "split") if several else ("split",)
  left_out = ("rows", "skipped") if several else ()
  columns = [name for name in words.split_numbers(splits[0][1]) if name not in left_out]
  table = _table(*first, *(name.replace(" ", "\n") for name in columns))
  for column in table.columns[: len(first)]:
    column.no_wrap = True
  for column in table.columns[len(first) :]:
    column.justify = "right"
  before = None
  for task, split in splits:
    name, numbers = task.description.name, words.split_numbers(split)
    shown = [name if name != before else ""] if several else []
    before = name
    table.add_row(*shown, words.split(split), *(numbers[c] for c in columns))
  console.print(table)


def _histogram(side: Side) -> Group:
  """Bars of text, with the limit under the bar that ends there."""
  lines = [Text(words.side(side), "bold"), *map(Text, words.length_lines(side))]
  bars = side.histogram(_BARS)
  most = max(bar.count for bar in bars)
  width = len(f"{bars[-1].last:,}")
  for bar in bars:
    filled = "█" * round(_BAR_WIDTH * bar.count / most)
    if bar.count and not filled:
      filled = "▏"
    share = words.percent(bar.count / len(side.lengths))
    span = f"{bar.last:>{width},}"
    if bars[0].last > 1:
      span = f"{bar.first:>{width},} to {span}"
    line = Text(f"{span}  {filled:<{_BAR_WIDTH}} {share:>6}")
    if bar.first <= side.limit <= bar.last:
      line.append("  ← limit", "yellow")
    lines.append(line)
  return Group(*lines)


def _print_templates(console: Console, task: facts.InspectedTask) -> None:
  _title(console, "Templates, and the share of training rows that drew each")
  table = _table("template", "tags", "share", "inputs → targets")
  table.columns[2].justify = "right"
  for template in task.description.templates:
    text = Text(words.one_line(template.inputs))
    text.append(" → ", "bold").append(words.one_line(template.targets))
    table.add_row(
      template.name,
      ", ".join(template.tags),
      words.template_share(task, template.name),
      text,
    )
  console.print(table)
  for line in words.tag_shares(task):
    _line(console, line)


def _print_text(console: Console, text: facts.Text) -> None:
  if text.text is None:
    head = f"{text.name}, {text.tokens} tokens, decoded"
  else:
    head = text.name
    _line(console, head, "bold")
    _indented(console, text.text)
    head = f"{text.name} as {text.tokens} tokens, decoded"
  if text.decoded == text.text:
    _line(console, f"{head}: the same", "bold")
    return
  _line(console, head, "bold")
  _indented(console, text.decoded)


def print_batch(
  console: Console, batch: run_batches.RunBatch, row: int | None = None
) -> None:
  """Prints the examples of a batch.

  Args:
    console: where to print.
    batch: the batch.
    row: the only row to show; None for all.
  """
  _title(console, words.batch(batch))
  for line in words.batch_lines(batch):
    _line(console, line)
  for number, examples in batch.numbered(row):
    _title(console, f"Row {number}: {words.filled(batch, examples)}")
    for segment, example in enumerate(examples, start=1):
      _line(console, words.row_example(segment, example), "bold")
      _indented(console, example.inputs)
      _line(console, "  →", "bold")
      _indented(console, example.targets)


def _title(console: Console, text: str) -> None:
  console.print()
  console.print(Text(text, "bold underline"))


def _line(console: Console, text: str, style: str = "") -> None:
  console.print(Text(text, style))


def _indented(console: Console, text: str) -> None:
  shown = Text(text)
  shown.highlight_words([words.UNKNOWN_PIECE], "bold red")
  console.print(Padding(shown, (0, 0, 0, 4)))


def _table(*columns: str) -> Table:
  table = Table(
    box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False
  )
  for column in columns:
    table.add_column(column, vertical="top", overflow="fold")
  return table

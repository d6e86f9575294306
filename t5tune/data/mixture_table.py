"""The mixture as a table: what a run will see of each task."""

import dataclasses
import json

from rich.console import Console
from rich.table import Table

from t5tune.data import feed


def to_json(mixture: str, data: feed.Feed, train_steps: int) -> str:
  """Returns what `print_mixture` shows, as JSON; see `print_mixture`."""
  summary = data.summary(train_steps)
  tasks = [dataclasses.asdict(task) for task in summary.tasks]
  values = {"mixture": mixture, "train_steps": train_steps, "tasks": tasks}
  return json.dumps(values, indent=1) + "\n"


def print_mixture(
  console: Console, mixture: str, data: feed.Feed, train_steps: int
) -> None:
  """Prints each task's examples, rate and epochs, and what a batch holds.

  Args:
    console: where to print.
    mixture: the mixture's name.
    data: the feed.
    train_steps: updates of the run.
  """
  summary = data.summary(train_steps)
  table = Table(title=f"Mixture {mixture}", title_justify="left")
  table.add_column("task")
  columns = ("examples", "rate", "share of target tokens", "epochs", "passes")
  for name in columns:
    table.add_column(name, justify="right")
  for task in summary.tasks:
    table.add_row(
      task.name,
      f"{task.examples:,}",
      f"{task.share:.1%}",
      f"{task.token_share:.1%}",
      f"{task.epochs:.2f}",
      str(task.passes),
    )
  console.print(table)
  console.print(
    f"{train_steps:,} steps = {train_steps / summary.steps_per_epoch:.2f} epochs of the"
    f" mixture; an update has {summary.examples_per_batch:,.1f} examples and"
    f" {summary.target_tokens_per_batch:,.0f} target tokens on average; rows are"
    f" {summary.input_density:.0%} (inputs) and {summary.target_density:.0%} (targets)"
    " full",
    highlight=False,
  )

"""Evaluations on the screen."""

import pathlib

import numpy as np
from rich import markup
from rich.console import Console
from rich.table import Table

from t5tune.evaluation import results, rouge


def print_scores(
  console: Console,
  title: str,
  after: dict[str, dict],
  before: dict[str, dict] | None = None,
) -> None:
  """Prints a table of every task's scores, beside its baselines.

  Args:
    console: where to print.
    title: the table's title.
    after: task -> summary.
    before: the same for the initial weights, if they were scored.
  """
  table = Table(title=title, title_justify="left")
  numbers = ["constant", "shuffled", "after"]
  if before:
    numbers.insert(2, "before")
  for name in ("task", "split", "metric"):
    table.add_column(name)
  for name in ("rows", *numbers, "mean tokens", "at cap"):
    table.add_column(name, justify="right")
  for task, summary in after.items():
    first = True
    for metric, value in summary["scores"].items():
      scores = {
        "constant": (summary["constant"] or {}).get(metric),
        "shuffled": (summary["shuffled"] or {}).get(metric),
        "before": (before or {}).get(task, {}).get("scores", {}).get(metric),
        "after": value,
      }
      label = [task, summary["split"]] if first else ["", ""]
      lengths = [f"{summary['mean_length']:.1f}", f"{summary['at_cap']:.1%}"]
      table.add_row(
        *label,
        f"[bold]{metric}[/bold]" if first else metric,
        str(summary["rows"]) if first else "",
        *(_number(scores[n]) for n in numbers),
        *(lengths if first else ["", ""]),
        end_section=metric == list(summary["scores"])[-1],
      )
      first = False
  console.print(table)
  if any(name.startswith("rouge") for s in after.values() for name in s["scores"]):
    console.print(f"ROUGE profile: {rouge.DEFAULT.fingerprint}", highlight=False)
  capped = [
    f"{task} ({s['decode_length']} tokens)"
    for task, s in after.items()
    if s["at_cap"] > 0.02
  ]
  if capped:
    console.print(
      "More than 2 % of the outputs were cut where decoding ends, behind the longest"
      f" reference: {', '.join(capped)}",
      highlight=False,
    )


def print_templates(console: Console, after: dict[str, dict]) -> None:
  """Prints each task's headline score over all of its templates, where measured.

  Args:
    console: where to print.
    after: task -> summary.
  """
  table = Table(title="Headline score over all templates", title_justify="left")
  for name in ("task", "metric"):
    table.add_column(name)
  for name in ("templates", "mean", "worst", "spread"):
    table.add_column(name, justify="right")
  table.add_column("worst template")
  for task, summary in after.items():
    if not summary.get("templates"):
      continue
    metric = next(iter(summary["scores"]))
    scores = {name: s[metric] for name, s in summary["templates"].items()}
    is_error = "error" in metric
    worst = (max if is_error else min)(scores, key=scores.get)
    mean, spread = float(np.mean([*scores.values()])), float(np.std([*scores.values()]))
    numbers = [_number(v) for v in (mean, scores[worst], spread)]
    table.add_row(task, metric, str(len(scores)), *numbers, worst)
  if table.row_count:
    console.print(table)
    console.print("spread: standard deviation over the templates", highlight=False)


def print_losses(
  console: Console, after: dict[str, dict], before: dict[str, dict] | None = None
) -> None:
  """Prints a table of every task's loss beside that of a unigram model.

  Args:
    console: where to print.
    after: task -> summary.
    before: the same for the initial weights, if they were scored.
  """
  table = Table(title="Loss of a target token, in nats", title_justify="left")
  table.add_column("task")
  columns = ("unigram", "before", "after", "perplexity", "after, inputs shuffled")
  for name in columns:
    table.add_column(name, justify="right")
  for task, summary in after.items():
    table.add_row(
      task,
      _number(summary["unigram_loss"]),
      _number((before or {}).get(task, {}).get("loss")),
      _number(summary["loss"]),
      _number(float(np.exp(summary["loss"]))),
      _number(summary["shuffled_loss"]),
    )
  console.print(table)


def print_examples(
  console: Console,
  directory: pathlib.Path,
  task: str,
  step: int,
  count: int = 3,
) -> None:
  """Prints a few inputs with the human answer and those before and after.

  Args:
    console: where to print.
    directory: the work directory.
    task: the task's name.
    step: the step of the predictions after training; before is step 0.
    count: how many examples, spread evenly over the rows.
  """
  after = results.load_predictions(directory, task, "test", step)
  before = results.load_predictions(directory, task, "test", 0) if step else []
  count = min(count, len(after))
  for k in range(count):
    row = after[k * len(after) // count]
    old = {r["input"]: r["prediction"] for r in before}.get(row["input"])
    text = row.get("dialogue") or row["input"]
    console.print(f"\n[bold]{task}, example {k + 1}[/bold]")
    console.print(markup.escape(text.strip()), highlight=False)
    answers = {"human": row["targets_pretokenized"], "before": old}
    for name, answer in {**answers, "after": row["prediction"]}.items():
      if answer is not None:
        line = f"  [bold]{name:>6}[/bold]  {markup.escape(answer) or '(empty)'}"
        console.print(line, highlight=False, soft_wrap=True)


def _number(value: float | None) -> str:
  return "–" if value is None else f"{value:.2f}"

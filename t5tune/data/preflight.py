"""Preflight: what can be known of a run's data before its first step.

Reads stores alone: rows asked twice, evaluation rows that training shows, and the
first batch as text.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from rich import markup
from rich.console import Console
from rich.table import Table

from t5tune.data import feed, index, token_store, vocabularies


@dataclasses.dataclass(frozen=True)
class Repeats:
  """Rows of a task that ask the same as other rows.

  Attributes:
    task: the task's name.
    split: the split that was looked at.
    examples: its examples.
    repeated: those that ask the same as one before them in the split.
    trained_on: those that ask what a training row of the same task asks; 0 of the
      training split.
    trained_on_elsewhere: the same for the training rows of other tasks only.
    shown: the text of the first such row, or None.
  """

  task: str
  split: str
  examples: int
  repeated: int
  trained_on: int
  trained_on_elsewhere: int
  shown: str | None


def repeats(mixture: index.PreparedMixture) -> list[Repeats]:
  """Finds exact duplicates within splits, and evaluation rows among training rows.

  Two examples are the same where the fields that their task's first template shows as
  inputs are: whatever the template, whatever the answer.

  Args:
    mixture: the prepared mixture, with training passes.

  Returns:
    For every task its training split and its evaluation splits.

  Raises:
    UserError: a store is damaged.
  """
  train = {
    task.name: token_store.TokenStore(task.passes[0]).keys
    for task in mixture.tasks
    if task.passes
  }
  everything = np.concatenate([np.unique(keys) for keys in train.values()])
  found = []
  for task in mixture.tasks:
    own = train.get(task.name, np.zeros(0, np.int64))
    if len(own):
      repeated = len(own) - len(np.unique(own))
      found.append(Repeats(task.name, "train", len(own), repeated, 0, 0, None))
    for split, path in task.splits.items():
      store = token_store.TokenStore(path)
      asked = store.keys
      in_own = np.isin(asked, own)
      elsewhere = ~in_own & np.isin(asked, everything)
      leaks = np.flatnonzero(in_own | elsewhere)
      shown = store.rows[leaks[0]]["inputs_pretokenized"] if len(leaks) else None
      counted = [len(asked) - len(np.unique(asked)), int(in_own.sum())]
      found.append(
        Repeats(task.name, split, len(asked), *counted, int(elsewhere.sum()), shown)
      )
  return found


def print_repeats(console: Console, found: Sequence[Repeats]) -> None:
  """Prints what `repeats` found, worst first, or that there is nothing.

  Args:
    console: where to print.
    found: from `repeats`.
  """
  table = Table(title="Rows that ask the same", title_justify="left")
  for name in ("task", "split"):
    table.add_column(name)
  for name in ("rows", "repeated", "trained on", "trained on in other tasks"):
    table.add_column(name, justify="right")
  for one in found:
    numbers = (one.repeated, one.trained_on, one.trained_on_elsewhere)
    if any(numbers):
      shares = [f"{n:,} ({n / one.examples:.1%})" if n else "" for n in numbers]
      table.add_row(one.task, one.split, f"{one.examples:,}", *shares)
  if not table.row_count:
    console.print(
      "No row is repeated within its split, and no evaluation row is trained on.",
      highlight=False,
    )
    return
  console.print(table)
  for one in found:
    if one.shown:
      text = " ".join(one.shown.split())
      line = f"trained on, for instance ({one.task}, {one.split}): {text[:160]}"
      console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_first_batch(
  console: Console, data: feed.Feed, tokenizer: vocabularies.Tokenizer
) -> None:
  """Prints what the first batch holds of every task, and an example of each as text.

  The text is what the model sees: decoded tokens, escapes and unknown pieces included.

  Args:
    console: where to print.
    data: the feed.
    tokenizer: the run's vocabulary.
  """
  examples, shape, _ = data.take({"window": 0, "row": 0})
  rows = int(examples["row"].max()) + 1
  console.print(
    f"\n[bold]First batch[/bold]: {len(examples)} examples in {rows} rows of"
    f" {shape[0]} input and {shape[1]} target tokens",
    highlight=False,
  )
  for number, task in enumerate(data.mixture.tasks):
    own = examples[examples["task"] == number]
    if not len(own):
      continue
    store = data.examples.stores[number][own[0]["pass_index"]]
    (pair,) = store.read([own[0]["record"]])
    console.print(
      f"\n[bold]{task.name}[/bold], {len(own)} of them, such as record"
      f" {own[0]['record']}, row {own[0]['row']}:",
      highlight=False,
    )
    for name, tokens in zip(("input", "target"), pair, strict=True):
      text = markup.escape(tokenizer.decode(tokens))
      line = f"  [bold]{name:>6}[/bold] ({len(tokens)}) {text}"
      console.print(line, highlight=False)

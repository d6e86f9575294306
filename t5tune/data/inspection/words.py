"""Words: the facts as short texts, the same on a terminal and on a page."""

from collections import Counter
from typing import Any

from t5tune.data.inspection import facts, run_batches
from t5tune.data.inspection.lengths import Side

UNKNOWN = "?"  # not every pipeline tells
UNKNOWN_PIECE = "⁇"  # how SentencePiece writes a token of no text
_MOST_CHARACTERS = 8


def count(value: int | None) -> str:
  """Returns a whole number, or what stands for an unknown one."""
  return UNKNOWN if value is None else f"{value:,}"


def percent(share: float | None) -> str:
  """Returns a share as a percentage; one that is small but not 0 does not read as 0."""
  if share is None:
    return UNKNOWN
  if 0 < share < 0.0005:
    return "<0.1%"
  return f"{share:.1%}"


def one_line(text: str) -> str:
  r"""Returns a text with its newlines and tabs written as `\n` and `\t`."""
  return text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")


def templates(task: Any) -> str:
  """Returns how many templates a `TaskDescription` has, and their tags."""
  if not task.templates:
    return "none"
  tags = ", ".join(f"{n} {tag}" for tag, n in task.tags)
  return f"{len(task.templates)}: {tags}"


def traits(task: Any) -> list[tuple[str, str]]:
  """Returns what a `TaskDescription` tells, as (name, value)."""
  rows = [f"{split} {count(n)}" for split, n in task.rows.items()]
  return [
    ("source", task.source),
    ("rows", ", ".join(rows) if rows else f"no data: {task.lacks}"),
    ("templates", templates(task)),
    ("metrics", ", ".join(task.metrics) or "none"),
    ("uses", "; ".join(task.uses) or "nothing further"),
  ]


def shares(mixture: Any) -> str:
  """Returns the tasks of a `MixtureDescription` with their shares."""
  return ", ".join(
    task if share is None else f"{task} {percent(share)}"
    for task, share in mixture.shares
  )


def problems(listing: Any) -> list[str]:
  """Returns why tasks of a `Listing` have no rows, each reason once.

  What is missing altogether is told of one task only, for all of them.
  """
  lacking: dict[str, list[Any]] = {}
  for task in listing.tasks:
    if task.lacks:
      lacking.setdefault(task.lacks, []).append(task)
  lines = []
  for why, tasks in lacking.items():
    told = tasks if why == "bad rows" else tasks[:1]
    for task in told:
      lines.append(f"{task.name}: {task.problem}")
    if len(told) < len(tasks):
      lines.append(f"({why}: so {len(tasks) - 1} more)")
  return lines


def split(one: facts.Split) -> str:
  """Returns a split's name and what was drawn for it."""
  return f"{one.name}, {one.drawn}" if one.drawn else one.name


def split_numbers(one: facts.Split) -> dict[str, str]:
  """Returns a split's row of the table of splits after its name, by column."""
  lost = [one.inputs.lost_tokens, one.targets.lost_tokens]
  characters = one.lost_characters
  return {
    "rows": count(one.rows),
    "skipped": count(one.skipped),
    "examples": count(one.examples),
    "inputs mean": f"{one.inputs.mean:,.1f}",
    "inputs cut": percent(one.inputs.above),
    "targets mean": f"{one.targets.mean:,.1f}",
    "targets cut": percent(one.targets.above),
    "tokens lost": count(None if None in lost else sum(lost)),
    "characters lost": count(None if characters is None else sum(characters.values())),
  }


def lost_characters(one: facts.Split) -> str:
  """Returns which characters the vocabulary lacks, the most frequent first."""
  common = Counter(one.lost_characters).most_common()
  shown = [f"{visible(c)} {n:,}" for c, n in common[:_MOST_CHARACTERS]]
  more = len(common) - len(shown)
  rest = f" and {more} more" if more > 0 else ""
  return f"the vocabulary lacks {', '.join(shown)}{rest}"


def visible(character: str) -> str:
  r"""Returns a character, or its escape such as `\n` where it could not be seen."""
  seen = character.isprintable() and not character.isspace()
  return character if seen else character.encode("unicode_escape").decode()


def side(one: Side) -> str:
  """Returns the name of a side, with its limit."""
  return f"{one.name}, limit {one.limit:,}"


def length_lines(one: Side) -> list[str]:
  """Returns the middle and the end of a side's lengths, and what was cut."""
  cut = f"{percent(one.above)} above the limit and cut"
  if one.truncated == 0:
    cut = "none above the limit"
  middle = f"mean {one.mean:,.1f}, half ≤ {one.quantile(0.5):,}"
  return [f"{middle}, 95% ≤ {one.quantile(0.95):,}, all ≤ {one.longest:,}", cut]


def template_share(task: facts.InspectedTask, template: str) -> str:
  """Returns the share of training rows that drew a template."""
  if task.template_shares is None:
    return UNKNOWN
  return percent(task.template_shares.get(template, 0.0))


def tag_shares(task: facts.InspectedTask) -> list[str]:
  """Returns for each tag with a share of its own what it was to get and what it got."""
  if task.template_shares is None:
    return []
  return [
    f"{tag}: {percent(wanted)} wanted, {percent(task.tag_share(tag))} drawn"
    + (" (where its targets fit)" if tag == "inverted" else "")
    for tag, wanted in task.description.tag_shares.items()
  ]


def example(one: facts.Example) -> str:
  """Returns which example it is and how it was made."""
  made = f", template {one.template}" if one.template else ""
  shown = f", {one.shots} exemplar{'s' * (one.shots > 1)}" if one.shots else ""
  return f"record {one.record:,}{made}{shown}"


def shapes(fill: facts.Fill) -> str:
  """Returns the lengths of rows, with the share of each where there are several."""
  if len(fill.shapes) == 1:
    return "{} + {}".format(*fill.shapes[0])
  return ", ".join(f"{s} + {t} ({share:.0%})" for s, t, share in fill.shapes)


def run(seen: facts.Inspection) -> str:
  """Returns how long a run over a mixture is and what its updates hold."""
  summary = seen.data.summary(seen.train_steps)
  epochs = seen.train_steps / summary.steps_per_epoch
  return (
    f"{seen.train_steps:,} steps = {epochs:.2f} epochs of the mixture; an update has"
    f" {summary.examples_per_batch:,.1f} examples and"
    f" {summary.target_tokens_per_batch:,.0f} target tokens on average."
  )


def batch(one: run_batches.RunBatch) -> str:
  """Returns which batch it is."""
  return f"Step {one.step:,} of mixture {one.mixture}"


def batch_lines(one: run_batches.RunBatch) -> list[str]:
  """Returns what there is to say of a whole batch."""
  examples = sum(map(len, one.rows))
  tasks = Counter(e.task for row in one.rows for e in row)
  shared = ", ".join(f"{name} {n}" for name, n in tasks.most_common())
  lines = [
    f"{len(one.rows)} rows of {one.shape[0]} + {one.shape[1]} tokens hold {examples}"
    f" examples: {shared}",
  ]
  if one.step > one.logged:
    lines.append(
      f"The last step that was logged is {one.logged:,}: this is what step"
      f" {one.step:,} gets."
    )
  return lines


def filled(one: run_batches.RunBatch, examples: Any) -> str:
  """Returns how much of a row is filled."""
  inputs = sum(e.input_length for e in examples)
  targets = sum(e.target_length for e in examples)
  several = f"{len(examples)} example{'s' * (len(examples) != 1)}"
  return f"{several}, {inputs} of {one.shape[0]} and {targets} of {one.shape[1]} tokens"


def row_example(segment: int, one: run_batches.RowExample) -> str:
  """Returns which example of a row it is, with the lengths of its segments."""
  return (
    f"  {segment}. {one.task}, pass {one.pass_index + 1}, record {one.record:,}:"
    f" {one.input_length} → {one.target_length} tokens"
  )

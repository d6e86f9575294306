"""Summaries on the screen: systems, trivial systems and humans under one profile."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
from rich import markup
from rich.console import Console
from rich.table import Table

from t5tune.evaluation import bootstrap, prediction_files, rouge, summaries

LEAST_ROWS = 20  # for which the bootstrap's p is near what it says


@dataclasses.dataclass(frozen=True)
class System:
  """Something that writes summaries, scored.

  Attributes:
    name: what to call it.
    scores: (rows, keys) float64, F1 x 100.
    length: mean number of words.
    invented: share of its names and numbers that the source lacks, 0 to 1, or None.
    at_cap: share of its texts that met a length limit, 0 to 1, or None.
  """

  name: str
  scores: np.ndarray
  length: float
  invented: float | None
  at_cap: float | None = None


def names(files: Sequence[prediction_files.Predictions]) -> list[str]:
  """Returns the paths of files from the folder that holds them all."""
  folder = os.path.commonpath([file.path.absolute().parent for file in files])
  return [os.path.relpath(file.path, folder) for file in files]


def systems(
  files: Sequence[prediction_files.Predictions], profile: rouge.Profile
) -> list[System]:
  """Scores files of predictions for the same rows, and what to compare them with.

  Args:
    files: the files, at least one.
    profile: the protocol.

  Returns:
    A system for each file; 'human', the references against each other, where rows have
    several; LEAD-3 and LONGEST-3, where the sources have lines of their own.
  """
  first = files[0]
  sources, references = first.sources, first.references
  everything = [*(sources or ()), *(text for row in references for text in row)]
  common = summaries.words(everything)

  def made(name: str, texts: Sequence[Sequence[str]], scores: np.ndarray) -> System:
    length = float(np.mean([len(t.split()) for row in texts for t in row]))
    if sources is None:
      return System(name, scores, length, None)
    pairs = [(t, s) for row, s in zip(texts, sources, strict=True) for t in row]
    found = [summaries.inventions(text, source, common) for text, source in pairs]
    mentions = sum(count for _, count in found)
    invented = sum(len(names) for names, _ in found) / mentions if mentions else 0.0
    return System(name, scores, length, invented)

  def scored(name: str, texts: Sequence[str]) -> System:
    scores = rouge.row_scores(references, texts, profile)
    return made(name, [[text] for text in texts], scores)

  named = zip(names(files), files, strict=True)
  systems = [
    dataclasses.replace(scored(name, file.texts), at_cap=file.at_cap)
    for name, file in named
  ]
  human = summaries.human_scores(references, profile)
  if human is not None:
    systems.append(made("human", references, human))
  if sources is not None and any("\n" in source for source in sources):
    for name, trivial in (("LEAD-3", summaries.lead), ("LONGEST-3", summaries.longest)):
      systems.append(scored(name, [trivial(source) for source in sources]))
  return systems


def print_systems(
  console: Console, systems: Sequence[System], profile: rouge.Profile
) -> None:
  """Prints a table of systems with the 95 % intervals of their scores.

  Args:
    console: where to print.
    systems: the systems, scored under the profile.
    profile: the protocol.
  """
  count = len(systems[0].scores)
  table = Table(title=f"{profile.name}, rows: {count:,}", title_justify="left")
  table.add_column("", overflow="fold")
  for name in (*profile.keys, "words", "at cap", "not in the source"):
    table.add_column(name, justify="right")
  for system in systems:
    intervals = map(bootstrap.interval, system.scores.T)
    shares = (system.at_cap, system.invented)
    table.add_row(
      markup.escape(system.name),
      *map(_cell, intervals),
      f"{system.length:.1f}",
      *("–" if share is None else f"{share:.1%}" for share in shares),
    )
  console.print(table)
  console.print(f"ROUGE profile: {profile.fingerprint}", highlight=False)
  for system in systems:
    if (system.at_cap or 0) > 0.02:
      console.print(
        f"warning: {system.at_cap:.1%} of {markup.escape(system.name)} was cut at a length"
        " limit; give it a longer one",
        highlight=False,
      )


def print_differences(
  console: Console, systems: Sequence[System], profile: rouge.Profile
) -> None:
  """Prints how far each system lies above the first, row by row.

  Args:
    console: where to print.
    systems: the systems.
    profile: the protocol they are scored under.
  """
  base, *others = systems
  title = f"{profile.name}: gain over {markup.escape(base.name)}"
  table = Table(title=title, title_justify="left")
  table.add_column("", overflow="fold")
  for name in profile.keys:
    table.add_column(name, justify="right")
    table.add_column("p", justify="right")
  for system in others:
    cells = []
    for scores, before in zip(system.scores.T, base.scores.T, strict=True):
      gain = bootstrap.difference(scores, before)
      cells += [_cell(gain, "+"), _p(gain.p) if len(scores) >= LEAST_ROWS else "–"]
    table.add_row(markup.escape(system.name), *cells)
  console.print(table)
  console.print(
    f"95 % intervals and p of the paired bootstrap over rows, {bootstrap.SAMPLES:,} draws",
    highlight=False,
  )
  if len(base.scores) < LEAST_ROWS:
    console.print(f"p is not given for fewer than {LEAST_ROWS} rows", highlight=False)


def print_references(
  console: Console,
  files: Sequence[prediction_files.Predictions],
  profile: rouge.Profile,
) -> None:
  """Prints the score of each file against each reference on its own.

  Args:
    console: where to print.
    files: the files; all rows have as many references.
    profile: the protocol.
  """
  table = Table(title=f"{profile.name}, each reference alone", title_justify="left")
  table.add_column("", overflow="fold")
  for name in ("reference", *profile.keys):
    table.add_column(name, justify="right")
  for name, file in zip(names(files), files, strict=True):
    scores = rouge.reference_scores(file.references, file.texts, profile)
    for number, row in enumerate(np.mean(scores, axis=0), start=1):
      shown = markup.escape(name) if number == 1 else ""
      table.add_row(shown, str(number), *(f"{x:.2f}" for x in row))
  console.print(table)


def _p(value: float) -> str:
  return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _cell(interval: bootstrap.Interval, sign: str = "") -> str:
  low, high = f"{interval.low:{sign}.2f}", f"{interval.high:{sign}.2f}"
  return f"[bold]{interval.mean:{sign}.2f}[/bold] {low} to {high}"

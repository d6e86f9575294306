"""Measures a recipe on this machine: `python -m t5tune.bench --gin_file=dialogsum.gin`.

Training steps, decoding, checkpoints, the feed and a start, each beside what the machine
can do at best. Needs neither data nor weights, unless asked for.
"""

import argparse
import json
import pathlib
import shlex
import tempfile
from collections.abc import Sequence

from t5tune import command_line, errors

EXAMPLES = (
  "python -m t5tune.bench --gin_file=dialogsum.gin",
  "python -m t5tune.bench --gin_file=dialogsum.gin --gin_file=models/flan_t5_small.gin"
  " --gin.BATCH_SIZE=8 --gin.PACK=False --measure=train,greedy --json=small.json",
  "python -m t5tune.bench --gin_file=multitask.gin --gin_file=models/t5_mini.gin"
  " --gin.INIT=scratch --data=mixture --data_dir=DIR --measure=train,data",
)
_RANDOM = ("train", "greedy", "beam", "save", "restore", "start")
_MEASURES = (*_RANDOM, "data")


def main(arguments: Sequence[str]) -> int:
  """Measures, prints a table; returns the exit status."""
  flags = _flags(arguments)
  chosen = _chosen(flags.measure, flags.data)
  if not flags.rounds.isdecimal() or int(flags.rounds) < 1:
    raise errors.UserError(f"--rounds={flags.rounds}: give a number from 1 on.")
  if flags.json and not flags.json.absolute().parent.is_dir():
    raise errors.UserError(f"--json={flags.json}: there is no folder of that name.")
  if flags.json and flags.json.is_dir():
    raise errors.UserError(f"--json={flags.json} is a folder: name a file.")

  from t5tune import accelerators, process_places

  process_places.check_alone("bench")
  accelerators.set_defaults(flags.store_dir)  # before jax starts
  with tempfile.TemporaryDirectory() as scratch:
    if flags.first_step:
      return _first_step(flags, pathlib.Path(scratch))
    made = _measured(flags, chosen, pathlib.Path(scratch), arguments)
  if flags.json:
    flags.json.write_text(json.dumps(made, indent=2) + "\n")
  return 0


def _flags(arguments: Sequence[str]):
  parser = command_line.parser(
    "bench",
    "Measures a recipe on this machine, on random weights and tokens: no data, no"
    " checkpoint. All measures take turns, and so does what the machine multiplies and"
    " reads at best.",
    EXAMPLES,
    flags=("gin_file", "data_dir", "store_dir"),
    required=("gin_file",),
  )
  parser.add_argument(
    "--measure",
    metavar="A,B,...",
    help=f"what to measure, among {', '.join(_MEASURES)} (default: all that --data has)",
  )
  parser.add_argument(
    "--data",
    choices=("random", "mixture"),
    default="random",
    help="what to train on: full rows of random tokens, or the recipe's own mixture",
  )
  parser.add_argument(
    "--rounds", default="5", metavar="N", help="how often each is measured (default: 5)"
  )
  parser.add_argument(
    "--json", type=pathlib.Path, metavar="FILE", help="write all numbers here, too"
  )
  parser.add_argument("--first_step", action="store_true", help=argparse.SUPPRESS)
  return parser.parse_args(arguments)


def _chosen(text: str | None, data: str) -> list[str]:
  """Returns what to measure, in our order."""
  known = _MEASURES if data == "mixture" else _RANDOM
  asked = known if text is None else text.split(",")
  for name in asked:
    if name == "data" and data == "random":
      raise errors.UserError("--measure=data needs --data=mixture: random has no feed.")
    if name not in known:
      near = errors.did_you_mean(name, known)
      raise errors.UserError(
        f"--measure names {name!r}.{near} There is: {', '.join(known)}."
      )
  return [name for name in known if name in asked]


def subject_of(
  gin_files: Sequence[str],
  overrides: Sequence[tuple[str, str]],
  stores: tuple[pathlib.Path | None, pathlib.Path] | None,
  scratch: pathlib.Path,
):
  """Puts together what is measured.

  Args:
    gin_files: the recipe.
    overrides: names and values set over it.
    stores: data_dir and store_dir, to train on the recipe's own mixture; None for full
      rows of random tokens.
    scratch: a folder for checkpoints.

  Returns:
    A `subject.Subject`, and the feed of its mixture or None.
  """
  from t5tune import config, run
  from t5tune.benchmarking import subject
  from t5tune.data import vocabularies
  from t5tune.models import t5
  from t5tune.planning import estimate

  settings = config.load(gin_files, overrides).build(run.Run)
  if stores is not None:
    from t5tune import job

    made = job.put_together(settings, *stores, None)
    feed = iter(made.data.batches())
    batches = [next(feed) for _ in range(subject.BATCHES)]
    return subject.Subject(made.run, made.step, batches, scratch), feed
  if settings.model.vocab_size is None:
    size = vocabularies.Tokenizer(settings.vocabulary_path()).size
    settings = settings.with_model(t5.pad_vocab_size(settings.model, size))
  lengths = estimate.row_lengths(settings)[0]
  return subject.Subject.of_random_tokens(settings, lengths, scratch), None


def _subject(flags, scratch: pathlib.Path):
  stores = (flags.data_dir, flags.store_dir) if flags.data == "mixture" else None
  return subject_of(flags.gin_file, flags.overrides, stores, scratch)


def _first_step(flags, scratch: pathlib.Path) -> int:
  """What a process that is measured from its start does."""
  subject, _ = _subject(flags, scratch)
  subject.train().seconds()
  return 0


def _measured(flags, chosen, scratch: pathlib.Path, arguments) -> dict:
  """Measures; prints and returns what was found."""
  from t5tune.benchmarking import measures, starts, table
  from t5tune.training import run_log

  console = run_log.console()
  rounds = int(flags.rounds)
  begun, taken = [], []
  # First, for one process alone may have an accelerator's memory.
  if "start" in chosen:
    begun = starts.measures(arguments, scratch)
    with console.status("") as status:
      taken = measures.run_rounds(begun, rounds, status.update, warm_up=False)
  rest = [name for name in chosen if name != "start"]
  if rest:
    from t5tune.benchmarking import machine

    subject, feed = _subject(flags, scratch)
    console.print(subject.describe())
    found = subject.measures(rest, feed)
    found += machine.peaks(subject.run.model, subject.tokens_of_a_device())
    with console.status("") as status:
      taken += measures.run_rounds(found, rounds, status.update)
    begun += found
  devices = subject.step.mesh.size if rest else 1
  records = table.records(begun, taken, devices)
  console.print(table.table(records))
  return {"command": shlex.join(arguments), **table.machine(), "measures": records}


if __name__ == "__main__":
  command_line.main(main)

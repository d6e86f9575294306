"""Shows tasks, mixtures and batches: `python -m t5tune.inspect_tasks [NAME ...]`."""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from t5tune import command_line, errors

EXAMPLES = (
  "python -m t5tune.inspect_tasks --data_dir=DIR",
  "python -m t5tune.inspect_tasks dialogsum --data_dir=DIR"
  " --gin.VOCABULARY=spiece.model",
  "python -m t5tune.inspect_tasks multitask --gin_file=multitask.gin --data_dir=DIR"
  " --html=multitask.html",
  "python -m t5tune.inspect_tasks --run=WORKDIR --step=100 --row=3",
)
# What a run must be told and inspection does not need.
_RECIPE = ("models/flan_t5_small.gin", "runs/finetune.gin")
_FILLED_IN = {"INIT": "'scratch'", "BATCH_SIZE": "8", "TRAIN_STEPS": "1"}


def main(arguments: Sequence[str]) -> int:
  """Shows what the flags name; returns the exit status."""
  parser = command_line.parser(
    "inspect_tasks",
    "Lists the registered tasks and mixtures; shows some of them in full, as training"
    " would read them; or shows a batch of a run as its step got it.",
    EXAMPLES,
    flags=("gin_file", "data_dir", "store_dir"),
  )
  parser.add_argument(
    "names",
    nargs="*",
    metavar="NAME",
    help="a task or mixture to show in full; its tokens are made where they are"
    " missing (default: list all)",
  )
  parser.add_argument(
    "--html",
    type=pathlib.Path,
    metavar="FILE",
    help="write the same to FILE too, as one page that needs no network",
  )
  parser.add_argument(
    "--run",
    type=pathlib.Path,
    metavar="WORKDIR",
    help="show a batch of the run in this work directory",
  )
  parser.add_argument(
    "--step",
    type=int,
    metavar="N",
    help="with --run: the batch whose update made step N, from 1",
  )
  parser.add_argument(
    "--row", type=int, metavar="R", help="with --run: only this row, from 0"
  )
  flags = parser.parse_args(arguments)
  _check(flags)

  from rich.console import Console

  console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
  if flags.run is not None:
    page = _show_batch(console, flags)
  elif flags.names:
    page = _show_in_full(console, flags)
  else:
    page = _show_list(console, flags)
  if flags.html is not None:
    from t5tune.data.inspection import page as html

    html.write(flags.html, **page)
    console.print(f"\npage: {flags.html}", markup=False)
  return 0


def _check(flags) -> None:
  """Raises a UserError on flags that do not go together."""
  if flags.run is None:
    for name in ("step", "row"):
      if getattr(flags, name) is not None:
        raise errors.UserError(f"--{name} goes with --run=WORKDIR.")
    return
  if flags.names:
    raise errors.UserError(
      f"{flags.names[0]} and --run: give one of them; --run shows a batch of all tasks"
      " of its run."
    )
  if flags.gin_file or flags.overrides or flags.data_dir:
    raise errors.UserError(
      "--run takes all settings from its work directory: leave out --gin_file,"
      " --gin.NAME and --data_dir."
    )
  if flags.step is None:
    raise errors.UserError("--run needs --step=N: which batch to show, from 1.")


def _settings(flags, mixture: str) -> Any:
  """Returns the `Run` of the flags; without a recipe, one that only has defaults."""
  from t5tune import config, run

  if flags.gin_file:
    return config.load(flags.gin_file, flags.overrides).build(run.Run)
  given = {name for name, _ in flags.overrides}
  filled = {"MIXTURE": repr(mixture), **_FILLED_IN}
  if "TRAIN_EPOCHS" in given:
    del filled["TRAIN_STEPS"]
  overrides = [(n, text) for n, text in filled.items() if n not in given]
  settings = config.load(_RECIPE, [*overrides, *flags.overrides])
  return settings.build(run.Run)


def _show_list(console, flags) -> dict[str, Any]:
  """Shows all that is registered; returns what a page of it needs."""
  settings = _settings(flags, "")
  request = settings.request(flags.data_dir, pathlib.Path(), train=False)

  from t5tune.data import definitions

  definitions.import_seqio()  # before a module of its side does, noisily
  from t5tune.data.inspection import task_descriptions, terminal

  listing = task_descriptions.registered(request)
  terminal.print_listing(console, listing)
  return {"listing": listing}


def _show_in_full(console, flags) -> dict[str, Any]:
  """Shows tasks and mixtures by name; returns what a page of them needs."""
  import dataclasses

  from t5tune.data import build, definitions
  from t5tune.data.inspection import facts, terminal

  seen = []
  for name in dict.fromkeys(flags.names):
    settings = dataclasses.replace(_settings(flags, name), mixture=name)
    request = settings.request(flags.data_dir, settings.vocabulary_path(), train=True)
    tasks = {task.name: task for task, _ in definitions.load(request)}
    mixture = build.ensure(request, flags.store_dir)
    set_steps = flags.gin_file or "TRAIN_STEPS" in dict(flags.overrides)
    steps = settings.train_steps if set_steps else None
    seen.append(facts.gather(request, mixture, tasks, steps))
    terminal.print_inspection(console, seen[-1])
  return {"inspections": seen}


def _show_batch(console, flags) -> dict[str, Any]:
  """Shows a batch of a run; returns what a page of it needs."""
  from t5tune.data.inspection import run_batches, terminal

  batch = run_batches.RunBatches(flags.run).batch(flags.step)
  if flags.row is not None and not 0 <= flags.row < len(batch.rows):
    raise errors.UserError(
      f"--row={flags.row}: a batch of this run has the rows 0 to {len(batch.rows) - 1}."
    )
  terminal.print_batch(console, batch, flags.row)
  return {"batch": batch, "row": flags.row}


if __name__ == "__main__":
  command_line.main(main)

"""Trains: `python -m t5tune.train --gin_file=demo.gin --workdir=DIR`.

    text → task → tokens → batches → model → loss → update → checkpoint → predictions

Reads from top to bottom: what `job.py` puts together (mesh, data, model, optimiser),
work directory, loop (`fit.py`). One update is `training/train_step.py`.
"""

import contextlib
import shlex
import sys
from collections.abc import Sequence

from t5tune import command_line, errors
from t5tune.training import interrupt  # of the standard library alone, as those

EXAMPLES = (
  "python -m t5tune.train --gin_file=demo.gin --workdir=/tmp/demo",
  "python -m t5tune.train --gin_file=dialogsum.gin --data_dir=DIR --workdir=DIR",
  "python -m t5tune.train --gin_file=multitask.gin --gin_file=models/t5_mini.gin"
  " --gin.INIT=scratch --gin.TRAIN_STEPS=300 --data_dir=DIR --workdir=DIR",
)


def main(arguments: Sequence[str]) -> int:
  """Trains, or with `--eval_only` scores a checkpoint; returns the exit status."""
  parser = command_line.parser(
    "train",
    "Fine-tunes a T5 on a SeqIO mixture. Started again with the same --workdir, it"
    " continues exactly where it stopped.",
    EXAMPLES,
    required=("gin_file",),
  )
  parser.add_argument(
    "--dry_run",
    action="store_true",
    help="do everything up to the first step, show the data and the memory it needs,"
    " and write nothing but token stores",
  )
  parser.add_argument(
    "--eval_only",
    action="store_true",
    help="score a saved checkpoint and stop, as python -m t5tune.eval does",
  )
  parser.add_argument(
    "--checkpoint",
    metavar="WHICH",
    help="with --eval_only: latest, best, all or a step (default: latest)",
  )
  flags = parser.parse_args(arguments)
  if flags.checkpoint and not flags.eval_only:
    raise errors.UserError(
      "--checkpoint goes with --eval_only; training continues from the latest."
    )
  if flags.workdir is None and not flags.dry_run:
    raise errors.UserError("--workdir is missing: name the folder of the run.")
  if flags.dry_run and flags.eval_only:
    raise errors.UserError("--dry_run and --eval_only: give one of them.")
  flags.checkpoint = flags.checkpoint or "latest"

  from t5tune import accelerators, processes

  accelerators.set_defaults(flags.store_dir)  # before jax starts
  if flags.eval_only:
    return processes.together(flags, lambda: _evaluate(flags))
  with interrupt.Interrupt() as stop:
    try:
      return processes.together(flags, lambda: _train(flags, stop))
    except interrupt.Stopped:  # before the processes had met
      return _stopped()


def _evaluate(flags) -> int:
  """What every process does with `--eval_only`."""
  from t5tune import config, run
  from t5tune.evaluation import checkpoint_scores

  settings = config.load(flags.gin_file, flags.overrides).build(run.Run)
  checkpoint_scores.score_checkpoints(settings, flags)
  return 0


def _train(flags, stop) -> int:
  """What every process of a training does."""
  try:
    with stop.deferred():
      from t5tune import config, fit, run  # noqa: F401  native code that none may break

    configuration = config.load(flags.gin_file, flags.overrides)
    return train(configuration.build(run.Run), configuration, flags, stop)
  except interrupt.Stopped:
    return _stopped()


def _stopped() -> int:
  """Says how a stopped run goes on: all that there is lies on disk."""
  from t5tune import processes

  if processes.is_primary():
    again = "python -m t5tune.train " + shlex.join(sys.argv[1:])
    print(f"Stopped; everything is saved. To continue:\n  {again}")
  return command_line.SAVED_NOT_FINISHED


def train(run, configuration, flags, stop) -> int:
  """Runs the training that the settings describe.

  Args:
    run: the settings, a `t5tune.run.Run`.
    configuration: the gin configuration they came from, a `t5tune.config.Config`.
    flags: `data_dir`, `store_dir` and `workdir`.
    stop: hears SIGINT and SIGTERM, an `interrupt.Interrupt`.

  Returns:
    The exit status, 0.

  Raises:
    Stopped: a signal came; everything is saved.
  """
  import jax

  from t5tune import fit, job_text, processes
  from t5tune import job as jobs
  from t5tune.data import mixture_table
  from t5tune.training import run_log, workdir

  console = run_log.console(quiet=not processes.is_primary())
  directory = flags.workdir
  processes.check_same("configuration", configuration.text)

  # --- Data, mesh, model, optimiser, evaluation.
  job = jobs.put_together(run, flags.data_dir, flags.store_dir, directory)
  evaluate = job.evaluator()
  if flags.dry_run:
    job_text.print_dry_run(console, job, configuration)
    return 0

  # --- Work directory: a new one, or one that holds this very run.
  def open_directory():
    identity = job.run.identity(job.tokenizer.sha256, job.mixture)
    workdir.check(directory, identity, job.train_steps)
    ours.enter_context(workdir.claimed(directory))
    changes = workdir.changed_bindings(directory, configuration.text)
    workdir.begin(directory, identity, configuration.text, job.tokenizer.path)
    shown = (job.mixture.name, job.data, job.train_steps, job.lengths_chosen)
    workdir.write_atomically(directory / "mixture.json", mixture_table.to_json(*shown))
    return changes

  with contextlib.ExitStack() as ours:
    changes = processes.from_primary("work directory", open_directory)
    processes.check_shared(directory)
    job_text.print_summary(console, job, configuration, changes)
    with jax.set_mesh(job.mesh):
      step, best = fit.Fit(console, job, evaluate, directory, stop).to_the_end()
  if step < job.train_steps:
    lines = [f"Ended at step {step}: {best.since} evaluations in a row were no better."]
    job_text.print_lines(console, lines)
  if processes.is_primary():
    job_text.print_results(console, job.run, directory, step, best)
  return 0


if __name__ == "__main__":
  command_line.main(main)

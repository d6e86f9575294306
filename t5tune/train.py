"""Trains: `python -m t5tune.train --gin_file=demo.gin --workdir=DIR`.

    text → task → tokens → batches → model → loss → update → checkpoint → predictions

Reads from top to bottom: what `job.py` puts together (mesh, data, model, optimiser),
work directory, restore, loop. One update is `training/train_step.py`.
"""

import dataclasses
import math
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

from t5tune import command_line, errors

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

  from t5tune import config, run

  configuration = config.load(flags.gin_file, flags.overrides)
  settings = configuration.build(run.Run)
  if flags.eval_only:
    from t5tune.evaluation import checkpoint_scores

    checkpoint_scores.score_checkpoints(settings, flags)
    return 0
  return train(settings, configuration, flags)


def train(run, configuration, flags) -> int:
  """Runs the training that the settings describe.

  Args:
    run: the settings, a `t5tune.run.Run`.
    configuration: the gin configuration they came from, a `t5tune.config.Config`.
    flags: `data_dir`, `store_dir` and `workdir`.

  Returns:
    The exit status: 0, or 130 when it was interrupted.
  """
  import jax

  from t5tune import job as jobs
  from t5tune.data import mixture_table
  from t5tune.training import run_log, workdir

  console, directory = run_log.console(), flags.workdir

  # --- Mesh, data, model, optimiser, evaluation.
  job = jobs.put_together(run, flags.data_dir, flags.store_dir, directory)
  evaluate = job.evaluator()
  if flags.dry_run:
    _print_dry_run(console, job, configuration)
    return 0

  # --- Work directory: a new one, or one that holds this very run.
  identity = job.run.identity(job.tokenizer.sha256, job.mixture)
  workdir.check(directory, identity, job.train_steps)
  changes = workdir.changed_bindings(directory, configuration.text)
  workdir.begin(directory, identity, configuration.text, job.tokenizer.path)
  shown = (job.mixture.name, job.data, job.train_steps, job.lengths_chosen)
  workdir.write_atomically(directory / "mixture.json", mixture_table.to_json(*shown))
  _print_summary(console, job, configuration, changes)

  with jax.set_mesh(job.mesh):
    step, best = _fit(console, job, evaluate, directory)
  if step < job.train_steps:
    again = "  python -m t5tune.train " + shlex.join(sys.argv[1:])
    _print_lines(console, [f"Stopped at step {step}. To continue:", again])
    return 130
  _print_results(console, job.run, directory, step, best)
  return 0


def _fit(console, job, evaluate, directory):
  """Trains from the latest checkpoint to the end, or until it is interrupted.

  Returns:
    The step it came to, and the best evaluation.
  """
  import jax

  from t5tune.evaluation import run_scores
  from t5tune.training import (
    checkpoints,
    interrupt,
    run_log,
    train_state,
    workdir,
  )

  run, train_steps = job.run, job.train_steps

  # --- Restore: from this directory, else pretrained weights, else scratch.
  saved = checkpoints.Checkpoints(
    directory / "checkpoints", run.first_best.by, run.keep_checkpoints
  )
  batches, best = job.data.batches(), run.first_best
  if saved.latest() is not None:
    state, meta = saved.restore(saved.latest(), job.abstract_state())
    batches.set_state(meta["feed"])
    best = best.restored(meta["best"])
    _print_lines(console, [f"Continuing from step {int(state.step)}"])
  else:
    state = _initial_state(job, directory)
  first_step = int(state.step)
  made = {
    "mixture": job.mixture.to_json(),
    "feed": dataclasses.asdict(job.feed_config),
  }
  workdir.keep_data(directory, first_step, made)

  # --- Loop. An evaluation sees the weights after its step's update.
  log = run_log.RunLog(directory, first_step)
  progress = run_log.Progress(console, first_step, train_steps)
  with progress, interrupt.Interrupt() as stop:
    score = run_scores.RunScores(
      evaluate, run, directory, progress, log, lambda: stop.requested
    )
    if first_step == 0 and run.eval_before:
      score.test(train_state.evaluated_params(state), 0)
    target_tokens = []
    for step in range(first_step + 1, train_steps + 1):
      batch = _next_batch(batches, job.mesh, progress)
      state, metrics = job.update(state, batch, job.dropout_key)
      target_tokens.append(metrics["target_tokens"])
      jax.block_until_ready(target_tokens[-2:-1])  # two in flight: Ctrl-C is heard
      if every(run.log_steps, step) or step in (first_step + 1, train_steps):
        position = {"feed": batches.get_state()}
        _log(log, progress, step, metrics, target_tokens, position)
      value = None
      if every(run.eval_steps, step):
        value = score.validation(train_state.evaluated_params(state), step)
        best = best.after(value, step)
      improved = best.step == step
      stopping = stop.requested or step == train_steps  # asked once: it saves
      if every(run.checkpoint_steps, step) or improved or stopping:
        _finite(step, metrics)
        kept = {"feed": batches.get_state(), "best": dataclasses.asdict(best)}
        saved.save(state, kept, value)
      if stopping:
        break
    batches.close()
    saved.close()
    ended = int(state.step) == train_steps
    if ended and not score.is_tested(train_steps):
      score.test(train_state.evaluated_params(state), train_steps)
  log.close()
  return int(state.step), best


def _initial_state(job, directory):
  """Returns the state before the first step: pretrained weights, or random ones."""
  from t5tune.training import train_state
  from t5tune.weights import pretrained

  params = pretrained.params(job.source, job.model, job.mesh) if job.source else None
  if params is None and job.run.init != pretrained.SCRATCH:  # never instead of weights
    raise errors.UserError(f"{directory}/checkpoints has no whole checkpoint.")
  return train_state.create(job.model, job.optimizer, job.mesh, job.run.seed, params)


def every(period: int, step: int) -> bool:
  """Returns whether something done every `period` steps (0: never) is due."""
  return period > 0 and step % period == 0


def _next_batch(batches, mesh, progress) -> dict[str, Any]:
  """Takes this process's rows of the next batch and lays them on the mesh."""
  import jax

  from t5tune import partitioning

  began = time.monotonic()
  batch = next(batches)
  progress.waited(time.monotonic() - began)

  def put(x):
    shape = (x.shape[0] * jax.process_count(), *x.shape[1:])
    sharding = partitioning.sharding(mesh, ("batch", "length"), shape)
    return jax.make_array_from_process_local_data(sharding, x, shape)

  return jax.tree.map(put, batch)


def _finite(step: int, metrics) -> dict[str, float]:
  """Fetches the metrics of a step; stops a run that diverged, before it is saved."""
  import jax

  scalars = {k: v for k, v in metrics.items() if k != "grad_squares"}
  values = {k: float(v) for k, v in jax.device_get(scalars).items()}
  if not math.isfinite(values["loss"] + values["grad_norm"]):
    raise errors.UserError(
      f"step {step}: the loss is {values['loss']} and the gradient norm"
      f" {values['grad_norm']}. Lower LEARNING_RATE or set"
      " optimizers.OptimizerConfig.clip_norm, and start in a new --workdir."
    )
  return values


def _log(log, progress, step: int, metrics, target_tokens: list, position) -> None:
  """Shows and writes the metrics of a step, and where the feed stands after it."""
  import jax

  values = _finite(step, metrics)
  since = float(sum(jax.device_get(target_tokens)))
  target_tokens.clear()
  shown = progress.line(step, values["loss"], since)
  log.write(step, "train", values | shown, details=position)


def _print_lines(console, lines: Sequence[str]) -> None:
  for line in lines:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _print_start(console, configuration, titled) -> None:
  """Prints the configuration and, where there are any, lines under their titles."""
  console.print(configuration.text, highlight=False, markup=False)
  for title, lines in {"Overrides": configuration.overrides, **titled}.items():
    if lines:
      _print_lines(console, [title, *(f"  {line}" for line in lines)])


def _print_dry_run(console, job, configuration) -> None:
  """Prints all that can be known before the first step."""
  import jax

  from t5tune.data import mixture_table, preflight
  from t5tune.training import memory

  _print_start(console, configuration, {})
  shown = (job.mixture.name, job.data, job.train_steps, job.lengths_chosen)
  mixture_table.print_mixture(console, *shown)
  preflight.print_repeats(console, preflight.repeats(job.mixture))
  preflight.print_first_batch(console, job.data, job.tokenizer)
  batch = memory.abstract_batch(job.mesh, job.run.batch_size, job.mixture.row_lengths)
  with jax.set_mesh(job.mesh):
    needed = memory.of_step(job.update, job.abstract_state(), batch, job.dropout_key)
  _print_lines(console, needed.lines())


def _print_summary(console, job, configuration, changes) -> None:
  """Prints what is going to be trained, on what, and with which settings."""
  import jax

  from t5tune.data import mixture_table

  titled = {
    "Changed since the last start": changes,
    f"Architecture, from {job.run.init}": job.told,
  }
  _print_start(console, configuration, titled)
  shown = (job.mixture.name, job.data, job.train_steps, job.lengths_chosen)
  mixture_table.print_mixture(console, *shown)
  devices = f"{jax.device_count()} {jax.devices()[0].device_kind} device(s)"
  size = f"{job.model.num_params():,} parameters, {job.run.model.dtype}"
  _print_lines(console, [f"{size}, {devices}, mesh {dict(job.mesh.shape)}"])


def _print_results(console, run, directory, train_steps: int, best) -> None:
  """Prints the scores before and after, examples, and where everything lies."""
  from t5tune.evaluation import results, tables

  after = results.load_scores(directory, "test", train_steps)
  before = results.load_scores(directory, "test", 0)
  shown = run.show_task or next(iter(after))
  tables.print_examples(console, directory, shown, train_steps)
  tables.print_losses(console, after, before)
  title = f"Scores at step {train_steps:,}, before and after training"
  tables.print_scores(console, title, after, before)
  tables.print_templates(console, after)
  chosen = f" (best by {best.by}: step {best.step})" if best.step else ""
  lines = [
    "Where everything lies:",
    f"  configuration  {directory}/config.gin",
    f"  checkpoints    {directory}/checkpoints{chosen}",
    f"  metrics        {directory}/metrics.jsonl, {directory}/tensorboard",
    f"  scores         {directory}/scores",
    f"  predictions    {directory}/predictions",
  ]
  _print_lines(console, lines)


if __name__ == "__main__":
  command_line.main(main)

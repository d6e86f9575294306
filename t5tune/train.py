"""Trains: `python -m t5tune.train --gin_file=demo.gin --workdir=DIR`.

    text → task → tokens → batches → model → loss → update → checkpoint → predictions

Reads from top to bottom: what `job.py` puts together (mesh, data, model, optimiser),
work directory, restore, loop. One update is `training/train_step.py`.
"""

import dataclasses
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

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

  accelerators.set_defaults()  # before jax starts
  return processes.together(flags, lambda: _main(flags))


def _main(flags) -> int:
  """What every process of a run does."""
  from t5tune import config, processes, run

  if flags.eval_only:
    from t5tune.evaluation import checkpoint_scores

    settings = config.load(flags.gin_file, flags.overrides).build(run.Run)
    checkpoint_scores.score_checkpoints(settings, flags)
    return 0
  with interrupt.Interrupt() as stop:
    try:
      configuration = config.load(flags.gin_file, flags.overrides)
      return train(configuration.build(run.Run), configuration, flags, stop)
    except interrupt.Stopped:  # all that there is lies on disk
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

  from t5tune import job as jobs
  from t5tune import job_text, processes
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
    changes = workdir.changed_bindings(directory, configuration.text)
    workdir.begin(directory, identity, configuration.text, job.tokenizer.path)
    shown = (job.mixture.name, job.data, job.train_steps, job.lengths_chosen)
    workdir.write_atomically(directory / "mixture.json", mixture_table.to_json(*shown))
    return changes

  changes = processes.from_primary("work directory", open_directory)
  processes.check_shared(directory)
  job_text.print_summary(console, job, configuration, changes)

  with jax.set_mesh(job.mesh):
    step, best = _fit(console, job, evaluate, directory, stop)
  if step < job.train_steps:
    lines = [f"Ended at step {step}: {best.since} evaluations in a row were no better."]
    job_text.print_lines(console, lines)
  if processes.is_primary():
    job_text.print_results(console, job.run, directory, step, best)
  return 0


def _restore(job, saved, directory, tell):
  """Returns the state to start from: a checkpoint's, else of INIT, else random.

  Args:
    job: the training.
    saved: the checkpoints of the work directory.
    directory: the work directory.
    tell: prints a line.

  Returns:
    The state; what its checkpoint kept beside it; and, where checkpoints hold LoRA's
    factors alone, what they say of the base.
  """
  from t5tune.training import train_state
  from t5tune.weights import adapters, pretrained

  run, model, mesh = job.run, job.model, job.mesh
  base, described = None, {}
  if model.has_lora:
    base = pretrained.base_params(job.source, model, mesh, run.seed)
    described = {"base": adapters.describe_base(run.init, run.seed, base)}
  wanted = train_state.saved_part(job.step.state, model)
  restored = saved.restore_latest(wanted, tell)
  if restored is not None:
    state, meta = restored
    tell(f"Continuing from step {int(state.step)}")
    if base is not None:
      adapters.check_base(directory, meta["base"], described["base"])
      state = train_state.with_base(state, base)
    return state, meta, described
  if base is not None:
    params = pretrained.with_fresh_factors(base, model, mesh, run.seed)
  elif job.source is not None:
    params = pretrained.params(job.source, model, mesh)
  elif run.init == pretrained.SCRATCH:
    params = None
  else:  # never random weights in place of others
    raise errors.UserError(f"{directory}/checkpoints has no whole checkpoint.")
  state = train_state.create(model, job.optimizer, mesh, run.seed, params)
  return state, {}, described


def _fit(console, job, evaluate, directory, stop):
  """Trains from the latest checkpoint to the end.

  Returns:
    The step it came to, and the best evaluation.

  Raises:
    Stopped: a signal came, to any of the processes; everything is saved.
  """
  from t5tune import job_text, processes
  from t5tune.evaluation import run_scores
  from t5tune.training import checkpoints, guard, run_log, workdir
  from t5tune.training.train_state import evaluated_params, saved_part

  run, train_steps = job.run, job.train_steps
  tell = lambda line: job_text.print_lines(console, [line])  # noqa: E731

  # --- Restore.
  saved = checkpoints.Checkpoints(directory / "checkpoints", run.keep_checkpoints)
  state, meta, base = _restore(job, saved, directory, tell)
  first_step, due = int(state.step), meta.get("due")
  batches, best = job.data.batches(), run.first_best
  if meta:
    batches.set_state(meta["feed"])
    best = best.restored(meta["best"])
  made = {"mixture": job.mixture.to_json()}
  made["feed"] = dataclasses.asdict(job.feed_config)
  if processes.is_primary():
    workdir.keep_data(directory, first_step, made)
    workdir.drop_scores(directory, first_step)

  # --- What is said and kept of it.
  def is_tested(step):
    tested = lambda: run_scores.is_tested(run, directory, step)  # noqa: E731
    return processes.from_primary("tested", tested)

  again = ["validation"] if due else []
  again += [] if is_tested(first_step) else ["test"]
  primary = processes.is_primary()
  log = run_log.RunLog(directory, first_step, again) if primary else run_log.NoLog()
  progress = run_log.Progress(console, first_step, train_steps)
  decode = job.tokenizer.decode
  watch = guard.Guard(run.guard, directory, log, tell, decode, meta.get("guard"))
  agreement = processes.Agreement(lambda: stop.requested)
  score = run_scores.RunScores(
    evaluate, run, directory, progress, log, agreement.reached
  )

  def save(due):
    watch.settle()
    kept = {"feed": batches.get_state(), "best": dataclasses.asdict(best), **base}
    kept |= {"guard": watch.state(), "due": due}
    saved.save(saved_part(state, job.model), kept)

  with progress:
    # --- Evaluations that come before the first step.
    if first_step == 0 and run.eval_before:
      score.test(evaluated_params(state), 0)
    if due:  # it was broken off; if it is again, the checkpoint still says so
      value = score.validation(evaluated_params(state), first_step)
      best = best.after(value, first_step)
      save(None)

    # --- Loop. An evaluation sees the weights after its step's update.
    step, target_tokens, stopping = first_step, [], False
    while step < train_steps and not best.ended(run.early_stopping):
      step += 1
      batch = _next_batch(job, batches, progress)
      state, metrics = job.step.update(state, batch, job.dropout_key)
      stop.hold()  # from here on a signal waits for a save
      watch.watch(step, batch, metrics)  # looks at the step before: two are in flight
      target_tokens.append(metrics["target_tokens"])
      logged = every(run.log_steps, step) or step in (1, train_steps)
      if logged or step == first_step + 1:
        position = {"feed": batches.get_state()}
        _log(log if logged else None, progress, step, metrics, target_tokens, position)
      due = None
      if every(run.eval_steps, step):
        watch.settle()
        try:
          best = best.after(score.validation(evaluated_params(state), step), step)
        except interrupt.Stopped:
          due = "validation"  # the next start begins with it
      ending = step == train_steps or best.ended(run.early_stopping)
      stopping = agreement.reached()  # asked once a step, by every process
      if every(run.checkpoint_steps, step) or best.step == step or ending or stopping:
        save(due)
      if stopping:
        break
    batches.close()
    saved.close()
    if stopping:
      tell(f"Stopped at step {step}.")
      raise interrupt.Stopped
    stop.release()  # raises Stopped where a signal came meanwhile
    if not is_tested(step):
      score.test(evaluated_params(state), step)
  log.close()
  return step, best


def every(period: int, step: int) -> bool:
  """Returns whether something done every `period` steps (0: never) is due."""
  return period > 0 and step % period == 0


def _next_batch(job, batches, progress) -> dict[str, Any]:
  """Takes this process's rows of the next batch and lays them on the mesh."""
  from t5tune import partitioning

  began = time.monotonic()
  batch = next(batches)
  progress.waited(time.monotonic() - began)
  return partitioning.put_batch(job.mesh, batch, job.data.rows, job.run.batch_size)


def _log(log, progress, step: int, metrics, target_tokens: list, position) -> None:
  """Shows the metrics of a step, and writes them and where the feed stands after it.

  Of the first step after a restart they are shown alone: no other run would log them.
  """
  import jax

  values = {k: v for k, v in metrics.items() if k != "grad_squares"}
  values = {k: float(v) for k, v in jax.device_get(values).items()}
  since = float(sum(jax.device_get(target_tokens)))
  target_tokens.clear()
  shown = progress.line(step, values["loss"], since)
  if log is not None:
    log.write(step, "train", values | shown, details=position)


if __name__ == "__main__":
  command_line.main(main)

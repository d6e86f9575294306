"""Trains: `python -m t5tune.train --gin_file=demo.gin --workdir=DIR`.

    text → task → tokens → batches → model → loss → update → checkpoint → predictions

Reads from top to bottom: mesh, data, model, evaluation, work directory, restore,
loop. One update is `training/train_step.py`.
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

  from t5tune import partitioning
  from t5tune.data import build, feed, mixture_table, preflight, vocabularies
  from t5tune.evaluation import evaluator, run_scores
  from t5tune.models import t5
  from t5tune.training import (
    checkpoints,
    interrupt,
    memory,
    optimizers,
    run_log,
    train_state,
    train_step,
    workdir,
  )
  from t5tune.weights import pretrained

  console, directory = run_log.console(), flags.workdir

  # --- Initial weights: opened here, read where no checkpoint is. Mesh.
  source, architecture, told = pretrained.begin(run.init, run.model, directory)
  run = run.with_model(architecture)
  mesh = partitioning.make_mesh(run.mesh)
  run.check_batch(partitioning.batch_shards(mesh))

  # --- Data: tokens on disk, built by a process of its own where they are missing.
  tokenizer = vocabularies.Tokenizer(run.vocabulary_path(directory))
  run = run.with_model(t5.pad_vocab_size(run.model, tokenizer.size))
  request = run.request(flags.data_dir, tokenizer.path, train=True)
  mixture = build.ensure(request, flags.store_dir)
  run.check_names(mixture)
  lengths, chosen = mixture.row_lengths, run.row_lengths is None
  feed_config = feed.FeedConfig(run.batch_size, *lengths, run.pack, run.seed)
  data = feed.Feed(mixture, feed_config, jax.process_index(), jax.process_count())
  train_steps = run.train_steps or math.ceil(run.train_epochs * data.steps_per_epoch)

  # --- Model and optimiser.
  model = train_state.Model(run.model)
  optimizer = optimizers.make_optimizer(run.optimizer, train_steps)
  shardings = train_state.state_shardings(model, optimizer, mesh)
  update = jax.jit(
    train_step.make_train_step(
      model, optimizer, run.z_loss, run.microbatches, run.label_smoothing
    ),
    donate_argnums=0,
    out_shardings=(shardings, partitioning.replicated(mesh)),
  )
  dropout_key = jax.random.key(run.seed)

  # --- Evaluation.
  evaluate = evaluator.for_run(run, request, mixture, model, mesh, tokenizer)
  if run.eval_steps > 0 and run.best_metric != "average":
    evaluate.check_metric(run.eval_split, run.best_metric)

  # --- Dry run: all that can be known before the first step.
  if flags.dry_run:
    state = train_state.placed_abstract_state(model, optimizer, mesh)
    batch = memory.abstract_batch(mesh, run.batch_size, lengths)
    _print_start(console, configuration.text, {"Overrides": configuration.overrides})
    mixture_table.print_mixture(console, mixture.name, data, train_steps, chosen)
    preflight.print_repeats(console, preflight.repeats(mixture))
    preflight.print_first_batch(console, data, tokenizer)
    with jax.set_mesh(mesh):
      needed = memory.of_step(update, state, batch, dropout_key)
    _print_lines(console, needed.lines())
    return 0

  # --- Work directory: a new one, or one that holds this very run.
  identity = run.identity(tokenizer.sha256, mixture)
  workdir.check(directory, identity, train_steps)
  changes = workdir.changed_bindings(directory, configuration.text)
  workdir.begin(directory, identity, configuration.text, tokenizer.path)
  saved = checkpoints.Checkpoints(
    directory / "checkpoints", run.chosen_by, run.keep_checkpoints
  )

  # --- Summary.
  _print_start(
    console,
    configuration.text,
    {
      "Overrides": configuration.overrides,
      "Changed since the last start": changes,
      f"Architecture, from {run.init}": told,
    },
  )
  mixture_table.print_mixture(console, mixture.name, data, train_steps, chosen)
  shown = mixture_table.to_json(mixture.name, data, train_steps, chosen)
  workdir.write_atomically(directory / "mixture.json", shown)
  devices = f"{jax.device_count()} {jax.devices()[0].device_kind} device(s)"
  size = f"{model.num_params():,} parameters, {run.model.dtype}"
  _print_lines(console, [f"{size}, {devices}, mesh {dict(mesh.shape)}"])

  with jax.set_mesh(mesh):
    # --- Restore: from this directory, else pretrained weights, else scratch.
    batches = data.batches()
    best = {"score": None, "step": 0, "by": run.chosen_by}
    if saved.latest() is not None:
      abstract = train_state.placed_abstract_state(model, optimizer, mesh)
      state, meta = saved.restore(saved.latest(), abstract)
      batches.set_state(meta["feed"])
      best = meta["best"] if meta["best"]["by"] == run.chosen_by else best
      _print_lines(console, [f"Continuing from step {int(state.step)}"])
    else:
      params = pretrained.params(source, model, mesh) if source else None
      if params is None and run.init != pretrained.SCRATCH:  # never instead of weights
        raise errors.UserError(f"{directory}/checkpoints has no whole checkpoint.")
      state = train_state.create(model, optimizer, mesh, run.seed, params)
    first_step = int(state.step)
    made = {"mixture": mixture.to_json(), "feed": dataclasses.asdict(feed_config)}
    workdir.keep_data(directory, first_step, made)

    # --- Loop. An evaluation sees the weights after its step's update.
    log = run_log.RunLog(directory, first_step)
    progress = run_log.Progress(console, first_step, train_steps)
    with progress, interrupt.Interrupt() as stop:
      score = run_scores.RunScores(
        evaluate, run, directory, progress, log, lambda: stop.requested
      )
      if first_step == 0 and run.eval_before:
        score.test(state.params, 0)
      target_tokens = []
      for step in range(first_step + 1, train_steps + 1):
        batch = _next_batch(batches, mesh, progress)
        state, metrics = update(state, batch, dropout_key)
        target_tokens.append(metrics["target_tokens"])
        jax.block_until_ready(target_tokens[-2:-1])  # two in flight: Ctrl-C is heard
        if every(run.log_steps, step) or step in (first_step + 1, train_steps):
          position = {"feed": batches.get_state()}
          _log(log, progress, step, metrics, target_tokens, position)
        value = None
        if every(run.eval_steps, step):
          value = score.validation(state.params, step)
        improved = value is not None and (best["step"] == 0 or value > best["score"])
        if improved:
          best = {"score": value, "step": step, "by": run.chosen_by}
        stopping = stop.requested or step == train_steps  # asked once: it saves
        if every(run.checkpoint_steps, step) or improved or stopping:
          _finite(step, metrics)
          saved.save(state, {"feed": batches.get_state(), "best": best}, value)
        if stopping:
          break
      batches.close()
      saved.close()
      ended = int(state.step) == train_steps
      if ended and not score.is_tested(train_steps):
        score.test(state.params, train_steps)
    log.close()

  if not ended:
    again = "  python -m t5tune.train " + shlex.join(sys.argv[1:])
    _print_lines(console, [f"Stopped at step {int(state.step)}. To continue:", again])
    return 130
  _print_results(console, run, directory, train_steps, best)
  return 0


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

  values = {k: float(v) for k, v in jax.device_get(metrics).items()}
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


def _print_start(console, configuration: str, titled) -> None:
  """Prints the configuration and, where there are any, lines under their titles."""
  console.print(configuration, highlight=False, markup=False)
  for title, lines in titled.items():
    if lines:
      _print_lines(console, [title, *(f"  {line}" for line in lines)])


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
  chosen = f" (best by {best['by']}: step {best['step']})" if best["step"] else ""
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

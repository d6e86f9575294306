"""Scores saved checkpoints; never trains. Behind `eval` and `train --eval_only`."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from t5tune import errors, partitioning, processes
from t5tune.data import build, index, vocabularies
from t5tune.evaluation import (
  evaluator,
  results,
  run_scores,
  scored_mixture,
  tables,
)
from t5tune.models import t5
from t5tune.training import checkpoint_files, checkpoints, parameter_groups, run_log
from t5tune.training import workdir as run_directory
from t5tune.training.train_state import Model
from t5tune.weights import adapters, pretrained, workdirs


def chosen_steps(saved: checkpoints.Checkpoints, which: str, by: str) -> list[int]:
  """Returns the steps that a `--checkpoint` flag means.

  Args:
    saved: the checkpoints of a work directory.
    which: 'latest', 'best', 'all' or a step.
    by: what the best is best by.

  Raises:
    UserError: there is no such checkpoint.
  """
  steps = saved.steps()
  if not steps:
    raise errors.UserError("--workdir holds no checkpoint yet; train first.")
  if which == "all":
    return steps
  best = saved.best(by) if which == "best" else None
  if which == "best" and best is None:
    raise errors.UserError(
      "--checkpoint=best: no checkpoint was scored during training (EVAL_STEPS = 0);"
      f" there is: {', '.join(map(str, steps))}."
    )
  if which in ("latest", "best"):
    return [saved.latest() if which == "latest" else best]
  if not which.isdigit() or int(which) not in steps:
    raise errors.UserError(
      f"--checkpoint={which}: give latest, best, all or one of the steps saved:"
      f" {', '.join(map(str, steps))}."
    )
  return [int(which)]


def _tokenizer(run: Any, kept: pathlib.Path) -> vocabularies.Tokenizer:
  """Returns the vocabulary that is set, or the run's own copy where that is absent."""
  try:
    return vocabularies.Tokenizer(run.vocabulary_path())
  except errors.UserError:
    if not kept.is_file():
      raise
    return vocabularies.Tokenizer(kept)


def _params_reader(
  run: Any,
  model: Model,
  mesh: Mesh,
  saved: checkpoints.Checkpoints,
  workdir: pathlib.Path,
) -> Callable[[int], Any]:
  """Returns a function from a step to the parameters of its checkpoint."""
  abstract = model.abstract_params(mesh)
  if run.model.lora is None:
    return lambda step: saved.restore_params(step, abstract)
  # With LoRA a checkpoint holds the factors alone.
  source = pretrained.open_base(run.init, run.model, workdir)
  base = pretrained.base_params(source, model, mesh, run.seed)
  described = adapters.describe_base(run.init, run.seed, base)
  abstract = parameter_groups.select(abstract, parameter_groups.is_lora_factor)

  def read(step: int) -> Any:
    factors = saved.restore_params(step, abstract)
    folder = workdir / "checkpoints" / str(step)
    recorded = checkpoint_files.read_meta(folder)["base"]
    adapters.check_base(folder, recorded, described)
    return parameter_groups.merge(base, factors)

  return read


def score_checkpoints(run: Any, flags: Any) -> None:
  """Evaluates checkpoints on the test split, saves and prints their scores.

  Args:
    run: the settings (`t5tune.run.Run`).
    flags: the command line: `workdir`, `checkpoint`, `data_dir`, `store_dir`.

  Raises:
    UserError: there is no such checkpoint, or it does not fit the settings.
  """
  console = run_log.console(quiet=not processes.is_primary())
  workdir = flags.workdir
  if run.init != pretrained.SCRATCH and (workdir / "run.json").is_file():
    recorded = workdirs.architecture(workdir)  # INIT need not be at hand
    architecture = pretrained.run_as(recorded, run.model)
    run = run.with_model(dataclasses.replace(architecture, lora=recorded.lora))
  tokenizer = _tokenizer(run, run_directory.vocabulary(workdir))
  run = run.with_model(t5.pad_vocab_size(run.model, tokenizer.size))
  model_identity = run_directory.model_identity(run.model)
  run_directory.check_model(
    workdir, {"model": model_identity, "VOCABULARY": tokenizer.sha256}
  )
  saved = checkpoints.Checkpoints(workdir / "checkpoints", read_only=True)
  by = run.first_best.by
  steps = processes.from_primary(
    "steps", lambda: chosen_steps(saved, flags.checkpoint, by)
  )

  # The training tokens, where they are at hand, give the baselines.
  request = run.request(flags.data_dir, tokenizer.path, train=True)
  prepared = index.path(flags.store_dir, request)
  if processes.from_primary("tokens", lambda: index.load(prepared) is None):
    request = run.request(flags.data_dir, tokenizer.path, train=False)
  mixture = processes.in_turns(
    "token stores", lambda: build.ensure(request, flags.store_dir)
  )

  mesh = partitioning.make_mesh(run.mesh)
  model = Model(run.model)
  scored = scored_mixture.prepare(run.eval_mixture, request, mixture, flags.store_dir)
  evaluate = evaluator.for_run(run, scored, model, mesh, tokenizer)
  with (
    jax.set_mesh(mesh),
    run_log.Progress(console, 0, len(steps), "checkpoints") as progress,
  ):
    score = run_scores.RunScores(evaluate, run, workdir, progress)
    read = _params_reader(run, model, mesh, saved, workdir)
    for done, step in enumerate(steps, start=1):
      score.test(read(step), step)
      progress.advance(done)
      if not processes.is_primary():
        continue
      after, before = results.after_and_before(workdir, step)
      tables.print_losses(console, after, before)
      tables.print_scores(console, f"Scores at step {step:,}", after, before)
      tables.print_templates(console, after)
  places = f"{workdir}/scores, {workdir}/predictions"
  console.print(f"scores and predictions: {places}", highlight=False, soft_wrap=True)

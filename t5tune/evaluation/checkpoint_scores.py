"""Scores saved checkpoints; never trains. Behind `eval` and `train --eval_only`."""

import pathlib
from typing import Any

import jax

from t5tune import errors, partitioning
from t5tune.data import build, index, vocabularies
from t5tune.evaluation import evaluator, results, run_scores, tables
from t5tune.models import t5
from t5tune.training import checkpoints, run_log
from t5tune.training import workdir as run_directory
from t5tune.training.train_state import Model
from t5tune.weights import pretrained, workdirs


def chosen_steps(saved: checkpoints.Checkpoints, which: str) -> list[int]:
  """Returns the steps that a `--checkpoint` flag means.

  Args:
    saved: the checkpoints of a work directory.
    which: 'latest', 'best', 'all' or a step.

  Raises:
    UserError: there is no such checkpoint.
  """
  steps = saved.steps()
  if not steps:
    raise errors.UserError("--workdir holds no checkpoint yet; train first.")
  if which == "all":
    return steps
  if which == "best" and saved.best() is None:
    raise errors.UserError(
      "--checkpoint=best: no checkpoint was scored during training (EVAL_STEPS = 0);"
      f" there is: {', '.join(map(str, steps))}."
    )
  if which in ("latest", "best"):
    return [saved.latest() if which == "latest" else saved.best()]
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


def score_checkpoints(run: Any, flags: Any) -> None:
  """Evaluates checkpoints on the test split, saves and prints their scores.

  Args:
    run: the settings (`t5tune.run.Run`).
    flags: the command line: `workdir`, `checkpoint`, `data_dir`, `store_dir`.

  Raises:
    UserError: there is no such checkpoint, or it does not fit the settings.
  """
  console, workdir = run_log.console(), flags.workdir
  if run.init != pretrained.SCRATCH and (workdir / "run.json").is_file():
    recorded = workdirs.architecture(workdir)  # INIT need not be at hand
    run = run.with_model(pretrained.run_as(recorded, run.model))
  tokenizer = _tokenizer(run, run_directory.vocabulary(workdir))
  run = run.with_model(t5.pad_vocab_size(run.model, tokenizer.size))
  model_identity = run_directory.model_identity(run.model)
  run_directory.check_model(
    workdir, {"model": model_identity, "VOCABULARY": tokenizer.sha256}
  )
  saved = checkpoints.Checkpoints(
    workdir / "checkpoints", run.chosen_by, read_only=True
  )
  steps = chosen_steps(saved, flags.checkpoint)

  # The training tokens, where they are at hand, give the baselines.
  request = run.request(flags.data_dir, tokenizer.path, train=True)
  if index.load(index.path(flags.store_dir, request)) is None:
    request = run.request(flags.data_dir, tokenizer.path, train=False)
  mixture = build.ensure(request, flags.store_dir)

  mesh = partitioning.make_mesh(run.mesh)
  model = Model(run.model)
  evaluate = evaluator.for_run(run, request, mixture, model, mesh, tokenizer)
  with (
    jax.set_mesh(mesh),
    run_log.Progress(console, 0, len(steps), "checkpoints") as progress,
  ):
    score = run_scores.RunScores(evaluate, run, workdir, progress)
    for done, step in enumerate(steps, start=1):
      params = saved.restore_params(step, model.abstract_params(mesh))
      score.test(params, step)
      progress.advance(done)
      after = results.load_scores(workdir, "test", step)
      before = results.load_scores(workdir, "test", 0) if step else None
      tables.print_losses(console, after, before)
      tables.print_scores(console, f"Scores at step {step:,}", after, before)
      tables.print_templates(console, after)
  places = f"{workdir}/scores, {workdir}/predictions"
  console.print(f"scores and predictions: {places}", highlight=False, soft_wrap=True)

"""A training put together, up to its first step: mesh, tokens, model, optimiser.

Stands between the settings (`run.py`) and the loop (`train.py`).
"""

import dataclasses
import json
import math
import pathlib

import jax
from jax.sharding import Mesh

from t5tune import partitioning, processes
from t5tune import run as runs
from t5tune.data import build, feed, index, vocabularies
from t5tune.evaluation import evaluator, scored_mixture
from t5tune.models import t5
from t5tune.planning import programs
from t5tune.training import optimizers, train_state
from t5tune.weights import pretrained, weights


@dataclasses.dataclass(frozen=True)
class Job:
  """All that training needs before there is a state.

  Attributes:
    run: the settings, with the architecture that the weights or gin give.
    source: the weights to start from; None for a checkpoint's, or random ones.
    told: lines that say where the architecture is not gin's.
    tokenizer: the vocabulary.
    request: the data asked for.
    mixture: the same, prepared.
    scored: what is evaluated, prepared: the mixture, or EVAL_MIXTURE.
    feed_config: how its tokens become batches.
    data: the batches.
    train_steps: length of the run.
    step: model, optimiser, mesh and the jitted update.
    dropout_key: the key that all dropout is drawn from.
  """

  run: runs.Run
  source: weights.Weights | None
  told: list[str]
  tokenizer: vocabularies.Tokenizer
  request: index.Request
  mixture: index.PreparedMixture
  scored: scored_mixture.Scored
  feed_config: feed.FeedConfig
  data: feed.Feed
  train_steps: int
  step: programs.Step
  dropout_key: jax.Array

  @property
  def mesh(self) -> Mesh:
    return self.step.mesh

  @property
  def model(self) -> train_state.Model:
    return self.step.model

  @property
  def optimizer(self) -> optimizers.Optimizer:
    return self.step.optimizer

  @property
  def lengths_chosen(self) -> bool:
    """Whether the lengths of packed rows were chosen from the data."""
    return self.run.row_lengths is None

  def evaluator(self) -> evaluator.Evaluator:
    """Returns what scores the model, once BEST_METRIC is known to be measured."""
    made = evaluator.for_run(
      self.run, self.scored, self.model, self.mesh, self.tokenizer
    )
    if self.run.chooses and processes.is_primary():  # it imports tensorflow
      evaluator.check_best_metric(made, self.run)
    return made


def put_together(
  run: runs.Run,
  data_dir: str | None,
  store_dir: pathlib.Path,
  workdir: pathlib.Path | None,
) -> Job:
  """Builds what a training needs; writes nothing but token stores.

  Args:
    run: the settings.
    data_dir: folder of the data sets' rows.
    store_dir: folder of the token stores; what is missing is built.
    workdir: the work directory, whose checkpoints come before INIT, or None.

  Raises:
    UserError: weights, vocabulary, data or settings do not fit each other.
  """
  # --- Initial weights: opened here, read where no checkpoint is. Mesh.
  source, architecture, told = pretrained.begin(run.init, run.model, workdir)
  run = run.with_model(architecture)
  mesh = partitioning.make_mesh(run.mesh)
  run.check_batch(partitioning.batch_shards(mesh))

  # --- Data: tokens on disk, built by a process of its own where they are missing.
  tokenizer = vocabularies.Tokenizer(run.vocabulary_path(workdir))
  run = run.with_model(t5.pad_vocab_size(run.model, tokenizer.size))
  request = run.request(data_dir, tokenizer.path, train=True)
  # The primary first: where the disk is shared, the others find all there.
  mixture = processes.in_turns("token stores", lambda: build.ensure(request, store_dir))
  same = json.dumps([mixture.fingerprint, mixture.row_lengths])
  processes.check_same("training data", same)
  scored = scored_mixture.prepare(run.eval_mixture, request, mixture, store_dir)
  run.check_names(scored.mixture)
  lengths = mixture.row_lengths
  feed_config = feed.FeedConfig(run.batch_size, *lengths, run.pack, run.seed)
  rows = partitioning.process_rows(mesh, run.batch_size)
  data = feed.Feed(mixture, feed_config, rows)
  train_steps = run.train_steps or math.ceil(run.train_epochs * data.steps_per_epoch)

  # --- Model and optimiser, in the compiled update.
  step = programs.training_step(run, mesh, lengths, train_steps, data.steps_per_epoch)
  return Job(
    run=run,
    source=source,
    told=told,
    tokenizer=tokenizer,
    request=request,
    mixture=mixture,
    scored=scored,
    feed_config=feed_config,
    data=data,
    train_steps=train_steps,
    step=step,
    dropout_key=jax.random.key(run.seed),
  )

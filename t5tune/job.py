"""A training put together, up to its first step: mesh, tokens, model, optimiser.

Stands between the settings (`run.py`) and the loop (`train.py`).
"""

import dataclasses
import json
import math
import pathlib
from typing import Any

import jax
from jax.sharding import Mesh

from t5tune import partitioning, processes
from t5tune import run as runs
from t5tune.data import build, feed, index, vocabularies
from t5tune.evaluation import evaluator
from t5tune.models import t5
from t5tune.training import optimizers, train_state, train_step
from t5tune.weights import pretrained, weights


@dataclasses.dataclass(frozen=True)
class Job:
  """All that training needs before there is a state.

  Attributes:
    run: the settings, with the architecture that the weights or gin give.
    source: the weights to start from; None for a checkpoint's, or random ones.
    told: lines that say where the architecture is not gin's.
    mesh: the devices.
    tokenizer: the vocabulary.
    request: the data asked for.
    mixture: the same, prepared.
    feed_config: how its tokens become batches.
    data: the batches.
    train_steps: length of the run.
    model: the model.
    optimizer: its optimiser.
    update: the jitted training step.
    dropout_key: the key that all dropout is drawn from.
  """

  run: runs.Run
  source: weights.Weights | None
  told: list[str]
  mesh: Mesh
  tokenizer: vocabularies.Tokenizer
  request: index.Request
  mixture: index.PreparedMixture
  feed_config: feed.FeedConfig
  data: feed.Feed
  train_steps: int
  model: train_state.Model
  optimizer: optimizers.Optimizer
  update: Any
  dropout_key: jax.Array

  @property
  def lengths_chosen(self) -> bool:
    """Whether the lengths of packed rows were chosen from the data."""
    return self.run.row_lengths is None

  def evaluator(self) -> evaluator.Evaluator:
    """Returns what scores the model, once BEST_METRIC is known to be measured."""
    made = evaluator.for_run(
      self.run, self.request, self.mixture, self.model, self.mesh, self.tokenizer
    )
    if self.run.eval_steps > 0 and processes.is_primary():  # it imports tensorflow
      split, chosen_by = self.run.eval_split, self.run.chosen_by
      measured = {task: made.metrics_of(task, split) for task in chosen_by.tasks}
      chosen_by.check_metrics(measured)
    return made

  def abstract_state(self) -> train_state.TrainState:
    """Returns the train state's shapes, dtypes and shardings."""
    return train_state.placed_abstract_state(self.model, self.optimizer, self.mesh)


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
  run.check_names(mixture)
  lengths = mixture.row_lengths
  feed_config = feed.FeedConfig(run.batch_size, *lengths, run.pack, run.seed)
  rows = partitioning.process_rows(mesh, run.batch_size)
  data = feed.Feed(mixture, feed_config, rows)
  train_steps = run.train_steps or math.ceil(run.train_epochs * data.steps_per_epoch)

  # --- Model and optimiser.
  model = train_state.Model(run.model)
  optimizer = optimizers.make_optimizer(
    run.optimizer, model.param_specs(), train_steps, data.steps_per_epoch
  )
  shardings = train_state.state_shardings(model, optimizer, mesh)
  update = jax.jit(
    train_step.make_train_step(
      model, optimizer, run.z_loss, run.microbatches, run.label_smoothing
    ),
    donate_argnums=0,
    out_shardings=(shardings, partitioning.replicated(mesh)),
  )
  return Job(
    run=run,
    source=source,
    told=told,
    mesh=mesh,
    tokenizer=tokenizer,
    request=request,
    mixture=mixture,
    feed_config=feed_config,
    data=data,
    train_steps=train_steps,
    model=model,
    optimizer=optimizer,
    update=update,
    dropout_key=jax.random.key(run.seed),
  )

"""The programs that a run compiles, put together from its settings alone.

Stands between the settings (`run.py`) and the loop (`train.py`), which jits its
training step here, too: what is planned is what will run.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from t5tune import partitioning
from t5tune.training import optimizers, train_state, train_step


@dataclasses.dataclass(frozen=True)
class Step:
  """A training step that can be compiled, and what it takes.

  Attributes:
    model: the model.
    optimizer: its optimiser.
    mesh: the devices; they need not be there.
    update: the jitted step.
    state: the abstract train state, laid out on the mesh.
    batch: the abstract batch, likewise.
    key: the abstract dropout key.
  """

  model: train_state.Model
  optimizer: optimizers.Optimizer
  mesh: Mesh
  update: Any
  state: train_state.TrainState
  batch: dict[str, Any]
  key: Any

  def trace(self) -> Any:
    """Returns the traced step (`jax.stages.Traced`), to lower or count."""
    with jax.set_mesh(self.mesh):
      return self.update.trace(self.state, self.batch, self.key)

  def compile(self) -> Any:
    """Returns the compiled step (`jax.stages.Compiled`); nothing is run."""
    with jax.set_mesh(self.mesh):
      return self.trace().lower().compile()


def jit_update(
  run: Any, model: train_state.Model, optimizer: optimizers.Optimizer, mesh: Mesh
) -> Any:
  """Returns the jitted training step of a run; it takes over the state it is given.

  Args:
    run: the settings, a `t5tune.run.Run`.
    model: the model.
    optimizer: its optimiser.
    mesh: the mesh.
  """
  update = train_step.make_train_step(
    model, optimizer, run.z_loss, run.microbatches, run.label_smoothing
  )
  shardings = train_state.state_shardings(model, optimizer, mesh)
  return jax.jit(
    update,
    donate_argnums=0,
    out_shardings=(shardings, partitioning.replicated(mesh)),
    compiler_options=_compiler_options(mesh),
  )


def _compiler_options(mesh: Mesh) -> dict[str, str]:
  """Returns what XLA is asked for.

  By default the CPU's schedule opens as many branches as it can and holds all their
  results: flan-t5-base took 5.0 GiB instead of 4.3, rematerialisation saved nothing,
  and no step was faster.
  """
  if mesh.devices.flat[0].platform != "cpu":
    return {}
  return {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


def training_step(
  run: Any,
  mesh: Mesh,
  row_lengths: tuple[int, int],
  train_steps: int,
  steps_per_epoch: float,
) -> Step:
  """Returns the training step of a run.

  Args:
    run: the settings, a `t5tune.run.Run` whose model has a `vocab_size`.
    mesh: the mesh.
    row_lengths: input and target length of a row.
    train_steps: length of the run, for its schedules.
    steps_per_epoch: steps of an epoch, likewise.
  """
  model = train_state.Model(run.model)
  optimizer = optimizers.make_optimizer(
    run.optimizer, model.param_specs(), train_steps, steps_per_epoch
  )
  return Step(
    model=model,
    optimizer=optimizer,
    mesh=mesh,
    update=jit_update(run, model, optimizer, mesh),
    state=train_state.placed_abstract_state(model, optimizer, mesh),
    batch=abstract_batch(mesh, run.batch_size, row_lengths),
    key=jax.eval_shape(lambda: jax.random.key(0)),
  )


def abstract_batch(mesh: Mesh, rows: int, lengths: tuple[int, int]) -> dict[str, Any]:
  """Returns the shapes of a batch, laid out on a mesh; see `packing.to_batch`.

  Args:
    mesh: the mesh.
    rows: rows of the global batch.
    lengths: input and target length of a row.
  """
  names = {
    "encoder_input_tokens": lengths[0],
    "encoder_segment_ids": lengths[0],
    "decoder_input_tokens": lengths[1],
    "decoder_target_tokens": lengths[1],
    "decoder_segment_ids": lengths[1],
    "decoder_loss_weights": lengths[1],
  }

  def shape(name, length):
    dtype = np.float32 if name == "decoder_loss_weights" else np.int32
    sharding = partitioning.sharding(mesh, ("batch", "length"), (rows, length))
    return jax.ShapeDtypeStruct((rows, length), dtype, sharding=sharding)

  return {name: shape(name, length) for name, length in names.items()}

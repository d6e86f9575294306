"""A tiny training run on any mesh, compiled once for all tests."""

import dataclasses
import functools

import jax
import numpy as np
import optax

from t5tune import partitioning
from t5tune.training import optimizers, parameter_groups, train_state, train_step
from tests.models import tiny_t5

TRAIN_STEPS = 10
Z_LOSS = 0.02
# Stacks of different depth, and as shallow as can be: compiling takes the time.
MODEL = train_state.Model(
  dataclasses.replace(tiny_t5.CONFIG, num_encoder_layers=1, num_decoder_layers=2)
)
# Rows of very different numbers of target tokens: a mean of means would show.
LENGTHS = [(9, 7), (3, 1), (8, 2), (5, 5), (2, 1), (9, 1), (4, 6), (7, 3)]
OPTIMIZERS = {
  "adafactor": optimizers.OptimizerConfig(
    "adafactor", learning_rate=0.05, warmup_steps=2, weight_decay=0.01
  ),
  "adamw": optimizers.OptimizerConfig(
    "adamw", learning_rate=3e-3, schedule="cosine", weight_decay=0.1, clip_norm=1.0
  ),
}


def batch(step: int):
  """Returns the batch of a step, on the host."""
  examples = tiny_t5.examples(LENGTHS, seed=step)
  return tiny_t5.pack([[e] for e in examples], 9, 7)


def scalars(metrics) -> dict[str, float]:
  """Returns the metrics of a step that are scalars."""
  return {k: float(v) for k, v in metrics.items() if k != "grad_squares"}


def descent(model: train_state.Model, rate: float) -> optimizers.Optimizer:
  """Returns plain gradient descent on all parameters."""
  names = parameter_groups.flatten(model.param_specs())
  return optimizers.Optimizer(frozenset(names), optax.identity(), lambda _: rate)


class TinyRun:
  """What `train.py` sets up: mesh, optimiser, shardings, the compiled update."""

  def __init__(self, optimizer: str, **mesh: int):
    devices = None if mesh else jax.devices()[:1]
    self.mesh = partitioning.make_mesh(mesh, devices)
    self.optimizer = optimizers.make_optimizer(
      OPTIMIZERS[optimizer], MODEL.param_specs(), TRAIN_STEPS
    )
    place = (MODEL, self.optimizer, self.mesh)
    self.shardings = train_state.state_shardings(*place)
    self.abstract = train_state.placed_abstract_state(*place)
    self._update = jax.jit(
      train_step.make_train_step(MODEL, self.optimizer, Z_LOSS),
      donate_argnums=0,
      out_shardings=(self.shardings, partitioning.replicated(self.mesh)),
      compiler_options={"xla_backend_optimization_level": 0},
    )

  def start(self) -> train_state.TrainState:
    """Returns the first state, the same on every mesh."""
    params = tiny_t5.params(MODEL)
    state = train_state.fresh(self.optimizer, params)
    # Copied, for an update gives its state's buffers away.
    return jax.tree.map(
      lambda x, s: jax.device_put(np.array(x), s), state, self.shardings
    )

  def steps(self, state: train_state.TrainState, count: int):
    """Returns the state after `count` updates and the metrics of each."""
    all_metrics = []
    with jax.set_mesh(self.mesh):
      for _ in range(count):
        rows = jax.tree.map(self._put, batch(int(state.step)))
        state, metrics = self._update(state, rows, jax.random.key(0))
        all_metrics.append(scalars(metrics))
    return state, all_metrics

  def _put(self, x: np.ndarray) -> jax.Array:
    axes = ("batch", "length")
    return jax.device_put(x, partitioning.sharding(self.mesh, axes, x.shape))


@functools.cache
def tiny_run(optimizer: str, **mesh: int) -> TinyRun:
  """Returns a run on a mesh, or on one device where no mesh is given."""
  return TinyRun(optimizer, **mesh)


@functools.cache
def first_steps(run: TinyRun, count: int):
  """Returns the parameters and the metrics of a run's first steps."""
  state, metrics = run.steps(run.start(), count)
  return jax.device_get(state.params), metrics

"""A tiny training run on any mesh, compiled once for all tests."""

import dataclasses
import functools

import jax
import numpy as np
import optax

from t5tune import partitioning
from t5tune.models import lora
from t5tune.training import optimizers, parameter_groups, train_state, train_step
from tests.models import tiny_t5

TRAIN_STEPS = 10
# Compiling takes the time of these tests.
QUICKLY = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
Z_LOSS = 0.02
# Stacks of different depth, and as shallow as can be: compiling takes the time.
CONFIG = dataclasses.replace(tiny_t5.CONFIG, num_encoder_layers=1, num_decoder_layers=2)
MODEL = train_state.Model(CONFIG)
# Rows of very different numbers of target tokens: a mean of means would show.
LENGTHS = [(9, 7), (3, 1), (8, 2), (5, 5), (2, 1), (9, 1), (4, 6), (7, 3)]
OPTIMIZERS = {
  "adafactor": optimizers.OptimizerConfig(
    "adafactor", learning_rate=0.02, warmup_steps=2, weight_decay=0.01
  ),
  "adamw": optimizers.OptimizerConfig(
    "adamw", learning_rate=3e-3, schedule="cosine", weight_decay=0.1, clip_norm=1.0
  ),
}


@dataclasses.dataclass(frozen=True)
class Setting:
  """What a tiny run may differ in, but for its mesh; see `Run` and `T5Config`."""

  optimizer: str = "adafactor"
  microbatches: int = 1
  dtype: str = "float32"
  layer_loop: str = "auto"
  lora: bool = False
  dropout_rate: float = 0.0
  num_heads: int = CONFIG.num_heads
  vocab_size: int = CONFIG.vocab_size

  def model(self) -> train_state.Model:
    """Returns the model."""
    factors = lora.LoraConfig(rank=4, alpha=8, targets=("query", "wi_0"))
    config = dataclasses.replace(
      CONFIG,
      dtype=self.dtype,
      layer_loop=self.layer_loop,
      lora=factors if self.lora else None,
      dropout_rate=self.dropout_rate,
      num_heads=self.num_heads,
      vocab_size=self.vocab_size,
    )
    return train_state.Model(config)

  def optimizer_config(self) -> optimizers.OptimizerConfig:
    """Returns how the run learns.

    Adafactor moves LoRA's factors by the whole rate, not by a share of their size: at
    the rate of the others, a start moved by 1e-7 ends five steps 1e-3 off in its loss.
    """
    config = OPTIMIZERS[self.optimizer]
    if self.lora and self.optimizer == "adafactor":
      return dataclasses.replace(config, learning_rate=3e-3)
    return config


def batch(step: int, packed: bool = False, draw: int = 0):
  """Returns the batch of a step, 16 rows of one or two examples, on the host."""
  seed = 1000 * draw + step
  examples = tiny_t5.examples(LENGTHS * (4 if packed else 2), seed)
  each = 2 if packed else 1
  rows = [examples[r : r + each] for r in range(0, len(examples), each)]
  return tiny_t5.pack(rows, 18, 14)


def scalars(metrics) -> dict[str, float]:
  """Returns the metrics of a step that are scalars."""
  return {k: float(v) for k, v in metrics.items() if k != "grad_squares"}


def descent(model: train_state.Model, rate: float) -> optimizers.Optimizer:
  """Returns plain gradient descent on all parameters."""
  names = parameter_groups.flatten(model.param_specs())
  return optimizers.Optimizer(frozenset(names), optax.identity(), lambda _: rate)


class TinyRun:
  """What `train.py` sets up: mesh, optimiser, shardings, the compiled update."""

  def __init__(self, setting: Setting, **mesh: int):
    devices = None if mesh else jax.devices()[:1]
    self.mesh = partitioning.make_mesh(mesh, devices)
    self.model = setting.model()
    self.optimizer = optimizers.make_optimizer(
      setting.optimizer_config(), self.model.param_specs(), TRAIN_STEPS
    )
    place = (self.model, self.optimizer, self.mesh)
    self.shardings = train_state.state_shardings(*place)
    self.abstract = train_state.placed_abstract_state(*place)
    self._update = jax.jit(
      train_step.make_train_step(
        self.model, self.optimizer, Z_LOSS, setting.microbatches
      ),
      donate_argnums=0,
      out_shardings=(self.shardings, partitioning.replicated(self.mesh)),
      compiler_options=QUICKLY,
    )

  def start(self) -> train_state.TrainState:
    """Returns the first state, the same on every mesh."""
    state = train_state.fresh(self.optimizer, tiny_t5.params(self.model))
    # Copied, for an update gives its state's buffers away.
    return jax.tree.map(
      lambda x, s: jax.device_put(np.array(x), s), state, self.shardings
    )

  def steps(
    self,
    state: train_state.TrainState,
    count: int,
    packed: bool = False,
    draw: int = 0,
  ):
    """Returns the state after `count` updates and the metrics of each.

    Args:
      state: the state to begin with.
      count: how many updates.
      packed: whether rows hold two examples.
      draw: which batches.
    """
    all_metrics = []
    with jax.set_mesh(self.mesh):
      for _ in range(count):
        rows = jax.tree.map(self._put, batch(int(state.step), packed, draw))
        state, metrics = self._update(state, rows, jax.random.key(0))
        all_metrics.append(scalars(metrics))
    return state, all_metrics

  def _put(self, x: np.ndarray) -> jax.Array:
    axes = ("batch", "length")
    return jax.device_put(x, partitioning.sharding(self.mesh, axes, x.shape))


@functools.cache
def tiny_run(optimizer: str, **mesh: int) -> TinyRun:
  """Returns a run on a mesh, or on one device where no mesh is given."""
  return TinyRun(Setting(optimizer), **mesh)

"""Optimisers from optax, acting on each layer of a stack as if it stood alone.

An optimiser sees the parameters that train and no others: what is frozen costs
neither gradients nor state.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from t5tune import errors
from t5tune.training import parameter_groups, schedules

_SETTING = "optimizers.OptimizerConfig."


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """An optimiser, its learning rate schedule, and which parameters it moves.

  Patterns are regular expressions that match the whole name of a parameter, such as
  'encoder/.*' or '.*/mlp/wi_[01]/kernel'; the layers of a stack are one parameter.

  Attributes:
    name: 'adafactor' as T5 uses it, or 'adamw'.
    learning_rate: peak learning rate [LEARNING_RATE]. With `parameter_scale`, relative
      to the root mean square of each parameter.
    schedule: 'constant', 'linear', 'cosine' or 'rsqrt' (1/sqrt(step)), all after the
      warm-up.
    warmup_steps: steps of linear growth; the n-th takes n/warmup_steps of the peak.
    warmup_epochs: the same in epochs of the mixture; None where given in steps.
    final_share: share of the peak that 'linear' and 'cosine' end at.
    weight_decay: decoupled weight decay, times the learning rate.
    no_weight_decay: patterns of the parameters that are not decayed.
    clip_norm: global norm to clip gradients to; None for no clipping.
    freeze: patterns of the parameters that do not train [FREEZE]. A model with LoRA
      trains its factors alone anyway.
    learning_rate_scales: pattern -> factor of the learning rate; the first pattern that
      matches counts, all other parameters have 1.
    ema_decay: decay of an exponential moving average of the trained parameters, which
      is what evaluation sees and what is exported; None for no average [EMA_DECAY].
    parameter_scale: Adafactor's multiplication by the parameter's scale; LoRA's
      factors, of which one starts at zero, go without it.
    min_dim_size_to_factor: Adafactor keeps a whole second moment where the second
      largest dimension is smaller.
    decay_rate: Adafactor's second-moment decay is `1 - (t + 1)**-decay_rate`.
    beta1: AdamW's first-moment decay.
    beta2: AdamW's second-moment decay.
    epsilon: AdamW's epsilon.
  """

  name: Literal["adafactor", "adamw"] = "adafactor"
  learning_rate: float = 1e-3
  schedule: Literal["constant", "linear", "cosine", "rsqrt"] = "constant"
  warmup_steps: int = 0
  warmup_epochs: float | None = None
  final_share: float = 0.0
  weight_decay: float = 0.0
  no_weight_decay: Sequence[str] = (".*norm/scale", ".*/rel_embedding")
  clip_norm: float | None = None
  freeze: Sequence[str] = ()
  learning_rate_scales: Mapping[str, float] = dataclasses.field(default_factory=dict)
  ema_decay: float | None = None
  parameter_scale: bool = True
  min_dim_size_to_factor: int = 128
  decay_rate: float = 0.8
  beta1: float = 0.9
  beta2: float = 0.999
  epsilon: float = 1e-8

  def __post_init__(self):
    checks = {
      "learning_rate": (self.learning_rate > 0, "positive"),
      "warmup_steps": (self.warmup_steps >= 0, "0 or more"),
      "warmup_epochs": ((self.warmup_epochs or 0) >= 0, "0 or more, or None"),
      "final_share": (0 <= self.final_share <= 1, "from 0 to 1"),
      "weight_decay": (self.weight_decay >= 0, "0 or more"),
      "clip_norm": (self.clip_norm is None or self.clip_norm > 0, "positive, or None"),
      "ema_decay": (
        self.ema_decay is None or 0 < self.ema_decay < 1,
        "between 0 and 1, such as 0.999, or None",
      ),
      "learning_rate_scales": (
        all(factor > 0 for factor in self.learning_rate_scales.values()),
        f"positive factors; {_SETTING}freeze keeps parameters as they are",
      ),
      "min_dim_size_to_factor": (self.min_dim_size_to_factor >= 1, "at least 1"),
      "decay_rate": (self.decay_rate > 0, "positive"),
      "beta1": (0 <= self.beta1 < 1, "at least 0 and below 1"),
      "beta2": (0 <= self.beta2 < 1, "at least 0 and below 1"),
      "epsilon": (self.epsilon > 0, "positive"),
    }
    for name, (is_right, wanted) in checks.items():
      if not is_right:
        raise errors.UserError(
          f"{_SETTING}{name} = {getattr(self, name)}: it must be {wanted}."
        )
    for name, value in vars(self).items():
      numbers = value.values() if isinstance(value, Mapping) else [value]
      if any(isinstance(x, float) and not math.isfinite(x) for x in numbers):
        raise errors.UserError(f"{_SETTING}{name} = {value}: it must be finite.")
    if self.warmup_steps and self.warmup_epochs:
      raise errors.UserError(
        f"{_SETTING}warmup_steps = {self.warmup_steps} and warmup_epochs ="
        f" {self.warmup_epochs}: give the warm-up in one of them."
      )
    if self.final_share and self.schedule not in ("linear", "cosine"):
      raise errors.UserError(
        f"{_SETTING}final_share = {self.final_share} goes with the schedules 'linear' and"
        f" 'cosine'; {self.schedule!r} does not end at a share of its peak."
      )


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """How the parameters that train move.

  Attributes:
    names: the names of the parameters that train.
    directions: what becomes of gradients before the learning rate.
    schedule: the learning rate of a step, counted from 0.
    factors: name -> factor of the learning rate, of those whose factor is not 1.
    ema_decay: decay of the moving average; None for no average.
  """

  names: frozenset[str]
  directions: optax.GradientTransformation
  schedule: optax.Schedule
  factors: Mapping[str, float] = dataclasses.field(default_factory=dict)
  ema_decay: float | None = None

  def trainable(self, params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of the nested dictionaries that trains."""
    return parameter_groups.select(params, self.names.__contains__)

  def merge(self, params: Mapping[str, Any], trainable: Mapping[str, Any]):
    """Returns all parameters, with these in place of those that train."""
    return parameter_groups.merge(params, trainable)

  def init(self, trainable: Mapping[str, Any]) -> Any:
    """Returns the first state for the parameters that train."""
    return self.directions.init(trainable)

  def update(self, gradients, opt_state, trainable, step: jax.Array):
    """Returns what to add to the parameters that train, and the next state.

    Args:
      gradients: of the parameters that train, nested like them.
      opt_state: the state before.
      trainable: those parameters, float32.
      step: int32 scalar, updates before this one; it sets the learning rate.
    """
    directions, opt_state = self.directions.update(gradients, opt_state, trainable)
    rate = self.schedule(step)
    factors = parameter_groups.map_names(
      lambda name: self.factors.get(name, 1.0), directions
    )
    updates = jax.tree.map(lambda d, factor: -rate * factor * d, directions, factors)
    return updates, opt_state

  def averaged(self, average, trainable, step: jax.Array):
    """Returns the moving average after an update: None where there is none.

    The decay grows as min(ema_decay, (1 + t) / (10 + t)), as TensorFlow's
    `ExponentialMovingAverage(num_updates=t)` has it, so that short runs are not ruled
    by their first weights.

    Args:
      average: the average before, nested like the parameters that train.
      trainable: those parameters after the update.
      step: int32 scalar, updates before this one.
    """
    if self.ema_decay is None:
      return None
    t = step.astype(jnp.float32)
    decay = jnp.minimum(self.ema_decay, (1 + t) / (10 + t))
    return jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), average, trainable)


def make_optimizer(
  config: OptimizerConfig,
  param_specs: Mapping[str, Any],
  train_steps: int,
  steps_per_epoch: float | None = None,
) -> Optimizer:
  """Returns the optimiser of a run, for parameters given as nested dictionaries.

  Adafactor's factoring, RMS clipping and parameter scale act per layer: on the
  stacked parameters of a scanned model each layer is treated alone, so that a
  stack and separate layers take the same steps.

  Args:
    config: which optimiser, with its settings.
    param_specs: all parameters of the model, of any leaves: only names are read.
    train_steps: length of the run in updates, for schedules that end.
    steps_per_epoch: updates of an epoch, where `config` counts epochs.

  Raises:
    UserError: a pattern matches no parameter, or nothing is left to train.
  """
  names = sorted(parameter_groups.flatten(param_specs))
  trainable = _trainable_names(config, names)
  parts = []
  if config.clip_norm is not None:
    parts.append(optax.clip_by_global_norm(config.clip_norm))
  if config.name == "adafactor":
    parts.append(_adafactor_per_layer(config, trainable))
  else:
    parts.append(optax.scale_by_adam(config.beta1, config.beta2, config.epsilon))
  if config.weight_decay:
    spared = parameter_groups.matching(
      config.no_weight_decay, names, _SETTING + "no_weight_decay"
    )
    parts.append(optax.add_decayed_weights(config.weight_decay, _all_but(spared)))
  warmup, given = config.warmup_steps, f"warmup_steps = {config.warmup_steps}"
  if config.warmup_epochs:
    warmup = schedules.epochs_to_steps(config.warmup_epochs, steps_per_epoch)
    given = f"warmup_epochs = {config.warmup_epochs} ({warmup} steps)"
  if warmup >= train_steps and config.schedule in ("linear", "cosine"):
    raise errors.UserError(
      f"{_SETTING}{given} leaves no step of {train_steps} for the"
      f" {config.schedule!r} schedule; lower the warm-up or raise TRAIN_STEPS."
    )
  return Optimizer(
    names=frozenset(trainable),
    directions=optax.chain(*parts),
    schedule=schedules.make_schedule(
      config.schedule, config.learning_rate, train_steps, warmup, config.final_share
    ),
    factors=parameter_groups.learning_rate_factors(
      config.learning_rate_scales, trainable, _SETTING + "learning_rate_scales"
    ),
    ema_decay=config.ema_decay,
  )


def _trainable_names(config: OptimizerConfig, names: Sequence[str]) -> list[str]:
  frozen = parameter_groups.matching(config.freeze, names, _SETTING + "freeze")
  factors = [name for name in names if parameter_groups.is_lora_factor(name)]
  trainable = [name for name in factors or names if name not in frozen]
  if not trainable:
    what = "factor of LoRA" if factors else "parameter"
    raise errors.UserError(
      f"{_SETTING}freeze = {list(config.freeze)} leaves no {what} to train."
    )
  return trainable


def _all_but(spared: set[str]):
  """Returns the mask that marks all parameters but those of these names."""
  return functools.partial(parameter_groups.map_names, lambda name: name not in spared)


def _adafactor_per_layer(
  config: OptimizerConfig, names: Sequence[str]
) -> optax.GradientTransformation:
  """Adafactor (Shazeer & Stern 2018) without its learning rate, layer by layer."""
  parts = [
    optax.scale_by_factored_rms(
      decay_rate=config.decay_rate,
      min_dim_size_to_factor=config.min_dim_size_to_factor,
    ),
    optax.clip_by_block_rms(1.0),
  ]
  # lora_b starts at zero: steps relative to its size would hardly leave it.
  if config.parameter_scale and not any(map(parameter_groups.is_lora_factor, names)):
    parts.append(optax.scale_by_param_block_rms())
  single = optax.chain(*parts)

  def update(updates, state, params):
    return jax.vmap(single.update)(updates, state, params)

  stacked = optax.GradientTransformation(jax.vmap(single.init), update)
  # The stacks may differ in depth, so each is a vmap of its own.
  groups = {"encoder": stacked, "decoder": stacked, "single": single}
  present = {_stack(name) for name in names}
  labels = functools.partial(parameter_groups.map_names, _stack)
  return optax.partition({k: v for k, v in groups.items() if k in present}, labels)


def _stack(name: str) -> str:
  """Returns the stack whose layers a parameter holds, or 'single'."""
  return name.partition("/")[0] if parameter_groups.is_stacked(name) else "single"


def state_axes(opt_state, param_specs):
  """Returns the logical axes of every array of an optimiser's state.

  A slot of its parameter's shape takes the parameter's axes; a factored second
  moment drops the axis it was averaged over (`v_row` the largest, `v_col` the
  second largest, as optax chooses them); all else is replicated.

  Args:
    opt_state: the state, of arrays or `jax.ShapeDtypeStruct`s.
    param_specs: nested dictionaries like the parameters', of leaves with a
      `shape` and `axes`.
  """
  leaves = jax.tree_util.tree_leaves_with_path(param_specs)
  by_path = {tuple(p.key for p in path): leaf for path, leaf in leaves}

  def axes(path, value):
    keys = [_key(p) for p in path]
    specs = (by_path.get(tuple(keys[start:])) for start in range(len(keys)))
    spec = next((spec for spec in specs if spec is not None), None)
    if spec is None:
      return (None,) * value.ndim
    if value.shape == spec.shape:
      return spec.axes
    return _factored_axes("v_row" in keys, spec, value.shape)

  return jax.tree_util.tree_map_with_path(axes, opt_state)


def _key(entry):
  return getattr(entry, "key", getattr(entry, "name", getattr(entry, "idx", None)))


def _factored_axes(is_row: bool, spec, shape):
  """Returns the axes of a factored second moment, or of an unused slot's dummy."""
  stacked = int(spec.axes[0] == "layers")
  order = np.argsort(spec.shape[stacked:])
  if len(order) >= 2:
    drop = stacked + int(order[-1] if is_row else order[-2])
    if shape == spec.shape[:drop] + spec.shape[drop + 1 :]:
      return spec.axes[:drop] + spec.axes[drop + 1 :]
  return (None,) * len(shape)

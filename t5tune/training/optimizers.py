"""Optimisers from optax, acting on each layer of a stack as if it stood alone."""

import dataclasses
from typing import Literal

import jax
import numpy as np
import optax

from t5tune import errors


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """An optimiser and its learning rate schedule.

  Attributes:
    name: 'adafactor' as T5 uses it, or 'adamw'.
    learning_rate: peak learning rate. With `parameter_scale`, relative to the
      root mean square of each parameter.
    schedule: 'constant', 'linear' or 'cosine' (both would reach zero one step
      after the last) or 'rsqrt' (1/sqrt(step)); all after the warm-up.
    warmup_steps: steps of linear growth; the n-th takes n/warmup_steps of the peak.
    weight_decay: decoupled weight decay, times the learning rate. Norm scales
      and biases (rank below two) are left alone.
    clip_norm: global norm to clip gradients to; None for no clipping.
    parameter_scale: Adafactor's multiplication by the parameter's scale.
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
  weight_decay: float = 0.0
  clip_norm: float | None = None
  parameter_scale: bool = True
  min_dim_size_to_factor: int = 128
  decay_rate: float = 0.8
  beta1: float = 0.9
  beta2: float = 0.999
  epsilon: float = 1e-8


def learning_rate_schedule(config: OptimizerConfig, train_steps: int) -> optax.Schedule:
  """Returns the learning rate as a function of the step, counted from 0."""
  peak, warmup = config.learning_rate, config.warmup_steps
  if warmup >= train_steps and config.schedule in ("linear", "cosine"):
    raise errors.UserError(
      f"optimizers.OptimizerConfig.warmup_steps = {warmup} leaves no step of {train_steps} for"
      f" the {config.schedule!r} schedule; lower warmup_steps or raise TRAIN_STEPS."
    )
  rest = train_steps - warmup
  after = {
    "constant": lambda: optax.constant_schedule(peak),
    "linear": lambda: optax.linear_schedule(peak, 0.0, rest),
    "cosine": lambda: optax.cosine_decay_schedule(peak, rest),
    "rsqrt": lambda: (
      lambda step: peak * (max(warmup, 1) / (step + max(warmup, 1))) ** 0.5
    ),
  }[config.schedule]()
  if not warmup:
    return after
  ramp = optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1))
  return optax.join_schedules([ramp, after], [warmup])


def make_optimizer(
  config: OptimizerConfig, train_steps: int
) -> optax.GradientTransformation:
  """Returns the optimiser, for parameters given as nested dictionaries.

  Adafactor's factoring, RMS clipping and parameter scale act per layer: on the
  stacked parameters of a scanned model each layer is treated alone, so that a
  stack and separate layers take the same steps.

  Args:
    config: which optimiser, with its settings.
    train_steps: length of the run, for schedules that end.
  """
  parts = []
  if config.clip_norm is not None:
    parts.append(optax.clip_by_global_norm(config.clip_norm))
  if config.name == "adafactor":
    parts.append(_adafactor_per_layer(config))
  else:
    parts.append(optax.scale_by_adam(config.beta1, config.beta2, config.epsilon))
  if config.weight_decay:
    parts.append(optax.add_decayed_weights(config.weight_decay, _is_matrix))
  schedule = learning_rate_schedule(config, train_steps)
  return optax.chain(*parts, optax.scale_by_learning_rate(schedule))


def _adafactor_per_layer(config: OptimizerConfig) -> optax.GradientTransformation:
  """Adafactor (Shazeer & Stern 2018) without its learning rate, layer by layer."""
  parts = [
    optax.scale_by_factored_rms(
      decay_rate=config.decay_rate,
      min_dim_size_to_factor=config.min_dim_size_to_factor,
    ),
    optax.clip_by_block_rms(1.0),
  ]
  if config.parameter_scale:
    parts.append(optax.scale_by_param_block_rms())
  single = optax.chain(*parts)

  def update(updates, state, params):
    return jax.vmap(single.update)(updates, state, params)

  stacked = optax.GradientTransformation(jax.vmap(single.init), update)
  # The stacks may differ in depth, so each is a vmap of its own.
  return optax.partition(
    {"encoder": stacked, "decoder": stacked, "single": single}, _stack_labels
  )


def _stack_labels(params):
  """Labels each parameter with the stack it belongs to, or 'single'."""

  def label(path, _):
    names = [p.key for p in path]
    return names[0] if "layers" in names else "single"

  return jax.tree_util.tree_map_with_path(label, params)


def _is_matrix(params):
  """Marks parameters of rank two or more, not counting a stack's layer axis."""

  def is_matrix(path, value):
    return value.ndim - ("layers" in [p.key for p in path]) >= 2

  return jax.tree_util.tree_map_with_path(is_matrix, params)


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

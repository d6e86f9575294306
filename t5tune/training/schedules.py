"""The learning rate of every update: warm-up, then one of four schedules."""

import math

import jax.numpy as jnp
import optax


def make_schedule(
  name: str,
  peak: float,
  train_steps: int,
  warmup_steps: int = 0,
  final_share: float = 0.0,
) -> optax.Schedule:
  """Returns the learning rate as a function of the step, counted from 0.

  The n-th step of the warm-up takes n/warmup_steps of the peak. 'linear' and 'cosine'
  (Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983, without restarts) would
  reach `final_share` of it one step after the last. 'rsqrt' falls as 1/sqrt(step), as
  T5's pre-training (https://arxiv.org/abs/1910.10683, section 3.1.2) and T5X's
  `linear_warmup_rsqrt_decay` do: sqrt(warmup_steps / step) of the peak.

  Args:
    name: 'constant', 'linear', 'cosine' or 'rsqrt'.
    peak: the highest rate.
    train_steps: updates of the run.
    warmup_steps: updates before the peak; fewer than `train_steps` for 'linear' and
      'cosine'.
    final_share: share of the peak that 'linear' and 'cosine' fall to.
  """
  rest = train_steps - warmup_steps
  start = max(warmup_steps, 1)
  after = {
    "constant": lambda: optax.constant_schedule(peak),
    "linear": lambda: optax.linear_schedule(peak, peak * final_share, rest),
    "cosine": lambda: optax.cosine_decay_schedule(peak, rest, final_share),
    "rsqrt": lambda: lambda step: peak * jnp.sqrt(start / (step + start)),
  }[name]()
  if not warmup_steps:
    return after
  ramp = optax.linear_schedule(peak / warmup_steps, peak, max(warmup_steps - 1, 1))
  return optax.join_schedules([ramp, after], [warmup_steps])


def epochs_to_steps(epochs: float, steps_per_epoch: float) -> int:
  """Returns how many updates an amount of epochs takes, rounded up."""
  return math.ceil(epochs * steps_per_epoch - 1e-9)

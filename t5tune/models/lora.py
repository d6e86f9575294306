"""LoRA: beside a kernel that is frozen, the product of two thin ones that train.

    y = x @ kernel + scale * (dropout(x) @ lora_a @ lora_b)

`lora_a` (in, r) and `lora_b` (r, out) lie in the parameters beside the `kernel` they
change (Hu et al. 2021, https://arxiv.org/abs/2106.09685), in a stack with its leading
`layers` axis. All else of the parameters is the base.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from jax.nn import initializers

from t5tune import errors

FACTORS = ("lora_a", "lora_b")
# What PEFT calls the kernels of T5's attention.
_OF_PEFT = {"q": "query", "k": "key", "v": "value", "o": "out"}


@dataclasses.dataclass(frozen=True)
class LoraConfig:
  """Which kernels get factors, and of what size.

  Attributes:
    rank: columns of `lora_a` and rows of `lora_b`; 0 for no LoRA [LORA_RANK].
    alpha: the product of the factors is scaled by alpha / rank; None for rank, which
      scales it by one [LORA_ALPHA].
    dropout_rate: share of the factors' inputs dropped in training, element by element
      as PEFT does it.
    targets: kernels that get factors, wherever a layer has one of that name: of
      'query', 'key', 'value' and 'out' in all attention, 'wi_0', 'wi_1' (T5 1.0: 'wi')
      and 'wo' in the MLP [LORA_TARGETS].
  """

  rank: int = 0
  alpha: float | None = None
  dropout_rate: float = 0.0
  targets: Sequence[str] = ("query", "value")

  def __post_init__(self):
    object.__setattr__(self, "targets", tuple(self.targets))  # hashed with the model
    if self.rank < 0:
      raise errors.UserError(
        f"LORA_RANK = {self.rank}: give a positive rank, or 0 for no LoRA."
      )
    if self.alpha is not None and not 0 < self.alpha < float("inf"):
      raise errors.UserError(
        f"LORA_ALPHA = {self.alpha}: it must be above 0 and finite, or None for"
        " LORA_RANK."
      )
    if self.alpha is not None and not self.rank:
      raise errors.UserError(
        f"LORA_ALPHA = {self.alpha} goes with LORA_RANK, which is 0: there is no LoRA."
      )
    if not 0 <= self.dropout_rate < 1:
      raise errors.UserError(
        f"lora.LoraConfig.dropout_rate = {self.dropout_rate}: it must be in [0, 1)."
      )
    if self.rank and not self.targets:
      raise errors.UserError(
        "LORA_TARGETS is empty, so that nothing would train. Name kernels, such as"
        " ['query', 'value']."
      )

  @property
  def scale(self) -> float:
    """What the product of the factors is multiplied by."""
    return 1.0 if self.alpha is None else self.alpha / self.rank

  def check_targets(self, kernels: Sequence[str]) -> None:
    """Checks that every target is a kernel of the architecture.

    Args:
      kernels: names of the kernels of its layers.

    Raises:
      UserError: one is not; names the nearest.
    """
    for target in self.targets:
      if target in kernels:
        continue
      near = errors.did_you_mean(target, kernels)
      if target in _OF_PEFT:
        near = f" {_OF_PEFT[target]!r} is what PEFT calls {target!r}."
      raise errors.UserError(
        f"LORA_TARGETS names {target!r}, which is no kernel of this T5's layers."
        f"{near} There is: {', '.join(kernels)}."
      )


def of_kernel(config: LoraConfig | None, name: str) -> LoraConfig | None:
  """Returns the configuration where a kernel of that name gets factors, else None."""
  return config if config is not None and name in config.targets else None


def dropout_keys(
  config: LoraConfig | None, key: jax.Array | None, count: int
) -> list[jax.Array | None]:
  """Returns the dropout key of a block, and one for the factors of each kernel in it.

  Args:
    config: None without LoRA.
    key: the block's PRNG key; None for no dropout.
    count: kernels of the block.

  Returns:
    1 + count keys. Where LoRA has no dropout they are `key` itself and Nones, so that
    the block drops what it drops without LoRA.
  """
  if config is None or key is None or config.dropout_rate == 0.0:
    return [key, *[None] * count]
  return list(jax.random.split(key, 1 + count))


def init_a(key: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
  """Draws `lora_a` (in, r) as PEFT does: uniformly within ±1/sqrt(in).

  PEFT's is torch's `kaiming_uniform_(a=sqrt(5))`. With a `lora_b` of zeros, training
  starts exactly at the base.
  """
  uniform = initializers.variance_scaling(1 / 3, "fan_in", "uniform")
  return uniform(key, shape, dtype)


def merge(kernel: Any, lora_a: Any, lora_b: Any, config: LoraConfig) -> Any:
  """Returns the one kernel (in, out) that computes what a kernel and its factors do.

  Args:
    kernel: float32 (in, out).
    lora_a: float32 (in, r).
    lora_b: float32 (r, out).
    config: gives the scale.
  """
  return kernel + config.scale * (lora_a @ lora_b)

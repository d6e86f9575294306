"""LoRA's factors apart from their base: what a run saves of them, and both merged.

A checkpoint of a run with LoRA holds the factors alone. Its `meta['base']` says where
the parameters lie that they were trained on, and a checksum of each: the same come
again from there at every start (`pretrained.base_params`) and in every conversion.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from t5tune import errors
from t5tune.models import lora, t5
from t5tune.training import array_checksums
from t5tune.training.train_state import Model
from t5tune.weights import names, weights

# 'scratch' as INIT: the base is drawn from the seed.
SCRATCH = "scratch"


@dataclasses.dataclass(frozen=True)
class Adapter:
  """Factors of LoRA, of which none is read yet, and what they were trained on.

  Attributes:
    origin: where they lie, for messages.
    config: their rank, scale and targets.
    read: (name of a kernel here, 'lora_a' or 'lora_b') -> float32 (l, in, r) or
      (l, r, out), the layers of a stack together. It raises a `UserError` that names
      what is damaged.
    init: where the base came from, as INIT has it.
    seed: the seed of a base that is 'scratch'.
    checksums: name of a parameter here -> that of the base; empty where it is unknown.
    architecture: the base's; None where only the base knows.
    vocabulary: the SentencePiece model beside them, or None.
    step: updates that made them.
  """

  origin: str
  config: lora.LoraConfig
  read: Callable[[str, str], np.ndarray]
  init: str
  seed: int = 0
  checksums: Mapping[str, int] = dataclasses.field(default_factory=dict)
  architecture: t5.T5Config | None = None
  vocabulary: pathlib.Path | None = None
  step: int = 0

  def kernels(self, architecture: t5.T5Config) -> list[str]:
    """Returns the kernels that have factors, by their names here."""
    return [n for n in names.stacks(architecture) if self._has_factors(n)]

  def shapes(self) -> list[tuple[int, ...]]:
    """Returns the shapes of the factors, where the architecture is known."""
    members, shapes = names.stacks(self.architecture), names.shapes(self.architecture)
    rank, found = self.config.rank, []
    for kernel in self.kernels(self.architecture):
      rows, columns = shapes[members[kernel][0]]
      found += [(rows, rank), (rank, columns)] * len(members[kernel])
    return found

  def _has_factors(self, name: str) -> bool:
    *_, module, last = name.split("/")
    return last == "kernel" and module in self.config.targets

  def merged(self, base: weights.Weights | None) -> weights.Weights:
    """Returns the weights that compute what the base and these factors do.

    Args:
      base: what `init` means: opened weights, or None for 'scratch'.

    Returns:
      float32 weights, read a stack of layers at a time: of every parameter, what is
      read of the base is compared with its checksum.

    Raises:
      UserError: the base is not the one that the factors were trained on.
    """
    if base is None:
      base = _from_seed(self.architecture, self.seed)
    config = self.architecture or base.config
    if names.shapes(config) != {n: tuple(s) for n, s in base.shapes.items()}:
      raise self._another_base(f"{base.origin} has parameters of other shapes")

    @functools.lru_cache(maxsize=1)  # the rows of a stack are asked for in turn
    def stack(name: str) -> np.ndarray:
      value = base.stack(name)
      if self.checksums and self.checksums[name] != checksums({name: value})[name]:
        raise self._another_base(f"parameter {name} has other values")
      if self._has_factors(name):
        factors = [self.read(name, factor) for factor in lora.FACTORS]
        for row, (lora_a, lora_b) in enumerate(zip(*factors, strict=True)):
          value[row] = lora.merge(value[row], lora_a, lora_b, self.config)
      return value

    def read(name: str) -> np.ndarray:
      here, row = names.stacked(name)
      return stack(here) if row is None else stack(here)[row]

    return weights.Weights(
      origin=self.origin,
      config=config,
      shapes=base.shapes,
      read=read,
      vocabulary=self.vocabulary or base.vocabulary,
      step=self.step,
      described=self.architecture is not None or base.described,
    )

  def _another_base(self, what: str) -> errors.UserError:
    return another_base(self.origin, self.init, what)


def checksums(params: Mapping[str, Any]) -> dict[str, int]:
  """Returns a checksum for every parameter, by its name here.

  Args:
    params: nested dictionaries of arrays.
  """
  sums = array_checksums.by_path(array_checksums.checksums(params))
  return {name: int(x) for name, x in jax.device_get(sums).items()}


def describe_base(init: str, seed: int, params: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the JSON values by which a checkpoint knows its base again.

  Args:
    init: INIT; a local directory is kept by its whole path.
    seed: the seed of the run.
    params: the parameters of the base.
  """
  local = init != SCRATCH and os.path.isdir(os.path.expanduser(init))
  place = os.path.abspath(os.path.expanduser(init)) if local else init
  return {"init": place, "seed": seed, "checksums": checksums(params)}


def check_base(
  origin: Any, recorded: Mapping[str, Any], found: Mapping[str, Any]
) -> None:
  """Checks that a run has the base its checkpoint was trained on.

  Args:
    origin: the checkpoint, for messages.
    recorded: `meta['base']` of the checkpoint.
    found: `describe_base` of the run.

  Raises:
    UserError: it has another.
  """
  before, now = recorded["checksums"], found["checksums"]
  different = sorted(
    n for n in before.keys() | now.keys() if before.get(n) != now.get(n)
  )
  if different:
    more = f" and {len(different) - 1} more have" if len(different) > 1 else " has"
    what = f"parameter {different[0]}{more} other values"
    raise another_base(origin, recorded["init"], what, found["init"])


def another_base(
  origin: Any, init: str, what: str, now: str | None = None
) -> errors.UserError:
  """Returns the error for factors whose base is not the one they were trained on.

  Args:
    origin: what holds the factors.
    init: where their base came from.
    what: the difference.
    now: where the base comes from that is not theirs; None for the same place.
  """
  place = f"INIT was {init!r}" + (
    f", and is {now!r}" if now not in (None, init) else ""
  )
  if init == SCRATCH:
    place += (
      "; random numbers change with SEED, the model, and perhaps the device or jax"
    )
  return errors.UserError(
    f"{origin} holds LoRA's factors, and what they were trained on has changed: {what}"
    f" ({place}). They fit no other weights: bring those back, or start anew in another"
    " --workdir."
  )


def without_base(origin: Any, init: str, e: errors.UserError) -> errors.UserError:
  """Returns the error for factors whose base cannot be opened.

  Args:
    origin: what holds the factors.
    init: where their base came from.
    e: why it cannot be opened.
  """
  return errors.UserError(
    f"{e}\n{origin} holds LoRA's factors alone: it needs the weights they were trained"
    f" on, INIT = {init!r}. Bring them back, or name where they are now."
  )


def _from_seed(config: t5.T5Config, seed: int) -> weights.Weights:
  """Returns the parameters that a run with INIT = 'scratch' starts from."""
  params = jax.device_get(jax.jit(Model(config).init)(jax.random.key(seed)))
  flat = array_checksums.by_path(params)

  def read(name: str) -> np.ndarray:
    stack, row = names.stacked(name)
    return flat[stack] if row is None else flat[stack][row]

  return weights.Weights(SCRATCH, config, names.shapes(config), read)

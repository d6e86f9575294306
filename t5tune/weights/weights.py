"""Named tensors, read one at a time: what every format is turned into."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from t5tune import errors
from t5tune.models import t5
from t5tune.weights import names


@dataclasses.dataclass(frozen=True)
class Weights:
  """The parameters of one checkpoint, under T5X's names; none is read yet.

  Attributes:
    origin: where they lie, for messages.
    config: the architecture; of it `dropout_rate`, `dtype` and how it is run say
      nothing of the checkpoint.
    shapes: name -> shape as stored, in T5X's orientation.
    read: name -> array in T5X's orientation and the stored dtype (float32 or
      bfloat16). It raises a `UserError` that names file and parameter.
    vocabulary: the SentencePiece model beside them, or None.
    step: updates that made them, 0 if unknown.
    described: whether a file beside the tensors says what `config` says; else it was
      inferred from their shapes.
  """

  origin: str
  config: t5.T5Config
  shapes: Mapping[str, tuple[int, ...]]
  read: Callable[[str], np.ndarray]
  vocabulary: pathlib.Path | None = None
  step: int = 0
  described: bool = True

  def __post_init__(self):
    check_shapes(self.origin, self.shapes, self.config)

  def tensor(self, name: str) -> np.ndarray:
    """Reads a parameter.

    Args:
      name: T5X's name, one of `names.shapes(config)`.

    Returns:
      The array, in T5X's orientation and the stored dtype.

    Raises:
      UserError: it cannot be read, or holds NaN or infinity.
    """
    value = self.read(name)
    if not np.isfinite(value.astype(np.float32, copy=False)).all():
      bad = int((~np.isfinite(value.astype(np.float32, copy=False))).sum())
      raise errors.UserError(
        f"{self.origin}: parameter {name} holds {bad} values that are NaN or infinite:"
        " the checkpoint is damaged or its training diverged. Get another copy."
      )
    return value

  def nested(
    self,
    put: Callable[[str, np.ndarray], Any],
    progress: Callable[[int, int], None] = lambda done, total: None,
    part: str = "",
  ) -> dict[str, Any]:
    """Reads everything, stack by stack, into parameters nested as the model's.

    Args:
      put: (name of a parameter here, float32 array with its stacked layers) -> leaf;
        the array is not kept.
      progress: told of the tensors read and their number.
      part: 'encoder' or 'decoder' for the parameters inside it alone.

    Returns:
      Nested dictionaries of what `put` gave.

    Raises:
      UserError: see `tensor`.
    """
    found: dict[str, Any] = {}
    stacks = names.stacks(self.config)
    stacks = {k: v for k, v in stacks.items() if k.startswith(part)}
    total, done = sum(map(len, stacks.values())), 0
    for stack, members in stacks.items():
      *folders, last = stack.split("/")
      inside = found
      for folder in folders:
        inside = inside.setdefault(folder, {})
      inside[last] = put(stack, self.stack(stack))
      done += len(members)
      progress(done, total)
    return found

  def stack(self, name: str) -> np.ndarray:
    """Reads a parameter as the model has it.

    Args:
      name: its name here, one of `names.stacks(config)`.

    Returns:
      A new float32 array; of a stack, with the layers as its first axis.

    Raises:
      UserError: see `tensor`.
    """
    members = names.stacks(self.config)[name]
    if names.stacked(members[0])[1] is None:
      return np.array(self.tensor(members[0]), np.float32)
    value = np.empty((len(members), *self.shapes[members[0]]), np.float32)
    for row, member in enumerate(members):
      value[row] = self.tensor(member)
    return value


def floating(label: str, value: np.ndarray) -> np.ndarray:
  """Returns float32 or bfloat16 as stored, other floats as float32.

  Args:
    label: file and parameter, for messages.
    value: an array as it was found.

  Raises:
    UserError: it is no array of floats.
  """
  if value.dtype.name in ("float32", "bfloat16"):
    return value
  if value.dtype.name in ("float16", "float64"):
    return value.astype(np.float32)
  raise errors.UserError(
    f"{label} has dtype {value.dtype}, where floating point is needed."
    " Quantised weights are not read."
  )


def check_shapes(
  origin: str, found: Mapping[str, tuple[int, ...]], config: t5.T5Config
) -> None:
  """Checks a checkpoint's shapes against an architecture.

  Args:
    origin: the checkpoint, for messages.
    found: name -> shape in the checkpoint.
    config: the architecture.

  Raises:
    UserError: a parameter is missing, is not the architecture's, or has another
      shape; the message names it and both shapes.
  """
  wanted = names.shapes(config)
  for name, shape in wanted.items():
    if name not in found:
      raise errors.UserError(
        f"{origin}: parameter {name} (Hugging Face: {names.hugging_face(name)[0]}),"
        f" shape {shape}, is missing. The architecture is not the checkpoint's, or the"
        " checkpoint is incomplete."
      )
    if tuple(found[name]) != tuple(shape):
      raise errors.UserError(
        f"{origin}: parameter {name} has shape {tuple(found[name])}, the architecture"
        f" (of gin, or of the config.json beside it) wants {tuple(shape)}. Name the gin"
        " file of the checkpoint's own size, such as models/flan_t5_small.gin."
      )
  for name in found:
    if name not in wanted:
      raise errors.UserError(
        f"{origin}: parameter {name}, shape {tuple(found[name])}, has no place in the"
        f" architecture ({config.num_encoder_layers} + {config.num_decoder_layers}"
        f" layers, activations {config.mlp_activations},"
        f" logits_via_embedding={config.logits_via_embedding})."
      )

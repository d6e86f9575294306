"""Weights between two checkpoints of one architecture."""

import dataclasses
import hashlib

from t5tune import errors
from t5tune.weights import weights


def between(
  before: weights.Weights, after: weights.Weights, alpha: float
) -> weights.Weights:
  """Returns (1 - alpha) · before + alpha · after; its tensors are read when asked for.

  Averaging a model before and after fine-tuning often keeps much of both (Wortsman et
  al. 2022, "Robust fine-tuning of zero-shot models").

  Args:
    before: the weights at alpha = 0.
    after: the weights at alpha = 1, trained on from the others.
    alpha: from 0 to 1.

  Raises:
    UserError: the two have another architecture or another vocabulary.
  """
  check_alike(before, after)

  def read(name: str):
    ends = (before.tensor(name).astype("float32"), after.tensor(name).astype("float32"))
    return (1 - alpha) * ends[0] + alpha * ends[1]

  return dataclasses.replace(
    after,
    origin=f"{before.origin} and {after.origin} at alpha = {alpha:g}",
    read=read,
    vocabulary=after.vocabulary or before.vocabulary,
    step=max(after.step, 1),  # 0 is before
  )


def check_alike(before: weights.Weights, after: weights.Weights) -> None:
  """Checks that two checkpoints can be averaged.

  Raises:
    UserError: they have another architecture or another vocabulary.
  """
  shapes = {k: tuple(v) for k, v in before.shapes.items()}
  for name, shape in after.shapes.items():
    if shapes.get(name) != tuple(shape):
      raise errors.UserError(
        f"{after.origin} is no further training of {before.origin}: parameter {name} has"
        f" shape {tuple(shape)} there and {shapes.get(name, 'is missing')} here."
      )
  hashes = {
    hashlib.sha256(w.vocabulary.read_bytes()).hexdigest()
    for w in (before, after)
    if w.vocabulary
  }
  if len(hashes) > 1 or shapes.keys() != after.shapes.keys():
    what = "vocabulary" if len(hashes) > 1 else "set of parameters"
    raise errors.UserError(
      f"{after.origin} is no further training of {before.origin}: they have another {what}."
    )

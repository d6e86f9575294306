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
  others = {k: tuple(v) for k, v in after.shapes.items()}
  hashes = {
    hashlib.sha256(w.vocabulary.read_bytes()).hexdigest()
    for w in (before, after)
    if w.vocabulary
  }
  what = "they have another vocabulary" if len(hashes) > 1 else None
  for name in sorted(shapes.keys() | others.keys()):
    if shapes.get(name) != others.get(name):
      what = (
        f"parameter {name} has shape {shapes.get(name, 'missing')} in the first and"
        f" {others.get(name, 'missing')} in the second"
      )
      break
  if what:
    raise errors.UserError(
      f"{before.origin} and {after.origin} cannot be averaged: {what}. Name a checkpoint"
      " and one that was trained on from it."
    )

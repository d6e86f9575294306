"""Runs batches of examples: what a model answers, and the loss of the targets."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from t5tune import partitioning
from t5tune.data import packing
from t5tune.evaluation import programs
from t5tune.training.train_state import Model

Example = tuple[np.ndarray, np.ndarray]  # int32 inputs and targets


class BatchRunner:
  """Decodes batches and takes their losses, with one encoding for all of it."""

  def __init__(self, model: Model, mesh: Mesh, config: programs.EvalConfig):
    self._mesh, self._config = mesh, config
    # One program of each kind for each bucket of lengths; the tasks share them.
    self._encode = programs.jit_encode(model)
    self._decode = functools.cache(
      lambda length: programs.jit_decode(
        model, mesh, programs.DecodeConfig(length, config.beam)
      )
    )
    self._losses = programs.jit_losses(model, mesh)
    self._reorder = jax.jit(lambda rows, places: rows[places])

  @property
  def has_pairs(self) -> bool:
    """Whether a batch has room for a row and another one."""
    return self._config.batch_size > 1

  def batches(self, order: Sequence[int]) -> Iterator[list[int]]:
    """Yields the rows of batches, neighbours in the order together."""
    size = self._config.batch_size
    size -= size % 2 if self.has_pairs else 0
    for start in range(0, len(order), size):
      yield list(order[start : start + size])

  def run(
    self,
    params: Any,
    examples: Sequence[Example],
    members: Sequence[int],
    others: Sequence[int] | None,
    length: int,
  ) -> tuple[np.ndarray, np.ndarray]:
    """Runs a batch.

    Args:
      params: the model's parameters.
      examples: all examples.
      members: which of them are the batch, one of `batches`.
      others: for every example another one, its neighbour in the order (see
        `baselines.other_rows`), to take the loss given its inputs, too; or None.
      length: most tokens to decode, a value of `EvalConfig.decode_length`.

    Returns:
      int32 (members, length), the tokens decoded, and float64 (3,): the loss of the
      targets in nats, their number, and their loss given the others' inputs (NaN
      without any).
    """
    rows = list(members)
    if others:  # a last row alone brings its neighbour, whose targets do not count
      rows += [others[i] for i in members if others[i] not in members]
    batch = self._batch([examples[i] for i in rows], len(members))
    inputs = batch.pop("encoder_input_tokens"), batch.pop("encoder_segment_ids")
    encoded = self._encode(params, *inputs)
    decoded, _ = self._decode(length)(params, encoded, inputs[1])
    loss, count = self._losses(params, encoded, inputs[1], batch)
    other_loss = np.nan
    if others:
      places = {row: place for place, row in enumerate(rows)}
      swapped = np.arange(self._config.batch_size, dtype=np.int32)
      swapped[: len(members)] = [places[others[i]] for i in members]
      # Placed as its own encoding is, or the program of the losses compiles anew.
      other = [
        jax.device_put(self._reorder(x, swapped), x.sharding)
        for x in (encoded, inputs[1])
      ]
      other_loss, _ = self._losses(params, *other, batch)
    outputs = jax.device_get(decoded)[: len(members), 0]
    return outputs, np.array(jax.device_get((loss, count, other_loss)), float)

  def _batch(self, examples: Sequence[Example], counted: int) -> dict[str, jax.Array]:
    """Lays examples out as a batch, padded to one of a few lengths of both sides.

    Args:
      examples: at most a batch of them.
      counted: how many of them have targets that count: the first.
    """
    empty = np.zeros(0, np.int32)
    kept = [*examples[:counted], *((inputs, empty) for inputs, _ in examples[counted:])]
    limits = (self._config.input_length, self._config.target_length)
    lengths = tuple(
      programs.bucket(max(len(example[side]) for example in kept), limits[side])
      for side in (0, 1)
    )
    kept += [(empty, empty)] * (self._config.batch_size - len(kept))
    batch = packing.to_batch([[e] for e in kept], lengths)
    rows = np.arange(self._config.batch_size)  # every process has read them all
    return partitioning.put_batch(self._mesh, batch, rows, len(rows))


def mean_losses(sums: np.ndarray) -> tuple[float, float | None]:
  """Returns the loss of a target token, and the same with other inputs.

  Args:
    sums: (batches, 3), what `BatchRunner.run` returns of each.
  """
  loss = sums[:, 0].sum() / sums[:, 1].sum()
  swapped = sums[~np.isnan(sums[:, 2])]
  if not len(swapped):
    return float(loss), None
  # The difference varies less from batch to batch than the loss itself.
  rise = (swapped[:, 2] - swapped[:, 0]).sum() / swapped[:, 1].sum()
  return float(loss), float(loss + rise)

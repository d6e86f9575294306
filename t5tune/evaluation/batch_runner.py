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
    # Targets whose losses are taken together. Those of a batch differ in length, for its
    # rows were chosen by their inputs; on several devices rows stay where they are.
    quarters = mesh.size == 1 and config.batch_size in range(16, 2**20, 4)
    self._target_rows = config.batch_size // (4 if quarters else 1)

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
    empty = np.zeros(0, np.int32)
    batch = self._place(
      [(examples[i][0], empty) for i in rows], self._config.batch_size
    )
    inputs = batch["encoder_input_tokens"], batch["encoder_segment_ids"]
    given = self._encode(params, *inputs), inputs[1]
    decoded, _ = self._decode(length)(params, *given)
    targets = [examples[i][1] for i in members]
    sums = [self._target_losses(params, given, targets, None)]
    if others:
      places = {row: place for place, row in enumerate(rows)}
      swapped = [places[others[i]] for i in members]
      sums.append(self._target_losses(params, given, targets, swapped))
    outputs = jax.device_get(decoded)[: len(members), 0]
    sums = [np.sum(jax.device_get(parts), axis=0) for parts in sums]
    other_loss = sums[1][0] if others else np.nan
    return outputs, np.array([*sums[0], other_loss], float)

  def _target_losses(
    self,
    params: Any,
    given: tuple[jax.Array, jax.Array],
    targets: Sequence[np.ndarray],
    places: Sequence[int] | None,
  ) -> list[tuple[jax.Array, jax.Array]]:
    """Takes the losses of targets, those of about the same length together.

    Args:
      params: the model's parameters.
      given: encoded inputs (b, s, d) and their segment ids (b, s).
      targets: at most b of them.
      places: for each target, where its inputs are; None for the target's own place.

    Returns:
      For each part its summed loss, in nats, and its number of tokens.
    """
    size, all_rows = self._target_rows, self._config.batch_size
    order = list(range(len(targets)))
    if size < all_rows:
      order.sort(key=lambda i: len(targets[i]))
    empty, parts = np.zeros(0, np.int32), []
    for start in range(0, len(order), size):
      some = order[start : start + size]
      here = given
      if places is not None or size < all_rows:
        chosen = np.zeros(size, np.int32)
        chosen[: len(some)] = some if places is None else [places[i] for i in some]
        # Placed as they were, or the program of the losses compiles anew.
        here = [jax.device_put(self._reorder(x, chosen), x.sharding) for x in given]
      batch = self._place([(empty, targets[i]) for i in some], size)
      batch = {name: x for name, x in batch.items() if name.startswith("decoder")}
      parts.append(self._losses(params, *here, batch))
    return parts

  def _place(self, examples: Sequence[Example], size: int) -> dict[str, jax.Array]:
    """Lays examples out as so many rows, padded to one of a few lengths of both sides."""
    limits = (self._config.input_length, self._config.target_length)
    lengths = tuple(
      programs.bucket(max(len(example[side]) for example in examples), limits[side])
      for side in (0, 1)
    )
    empty = np.zeros(0, np.int32)
    rows = [[e] for e in (*examples, *[(empty, empty)] * (size - len(examples)))]
    batch = packing.to_batch(rows, lengths)
    numbers = np.arange(size)  # every process has read them all
    return partitioning.put_batch(self._mesh, batch, numbers, size)


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

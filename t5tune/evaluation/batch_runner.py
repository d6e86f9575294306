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
        `baselines.other_rows`), or None.
      length: most tokens to decode, a value of `EvalConfig.decode_length`.

    Returns:
      int32 (members, length), the tokens decoded, and float64 (3,): the loss of the
      targets in nats, their loss given the others' inputs (0 without any), and their
      number.
    """
    rows = list(members)
    if others:  # a last row alone brings its neighbour, whose targets do not count
      rows += [others[i] for i in members if others[i] not in members]
    places = {row: place for place, row in enumerate(rows)}
    other_places = None
    if others:
      other_places = np.arange(self._config.batch_size, dtype=np.int32)
      other_places[: len(members)] = [places[others[i]] for i in members]
    batch = self._batch([examples[i] for i in rows], len(members))
    tokens, segment_ids = batch["encoder_input_tokens"], batch["encoder_segment_ids"]
    encoded = self._encode(params, tokens, segment_ids)
    decoded, _ = self._decode(length)(params, encoded, segment_ids)
    sums = jax.device_get(self._losses(params, encoded, batch, other_places))
    outputs = jax.device_get(decoded)[: len(members), 0]
    return outputs, np.asarray(sums, float)

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

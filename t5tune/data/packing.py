"""From examples to the rows of a batch: which share a row, and what it holds."""

from collections.abc import Sequence

import numpy as np


def first_fit(lengths: np.ndarray, capacity: tuple[int, int]) -> list[list[int]]:
  """Assigns examples to rows, each to the first row with room on both sides.

  Args:
    lengths: int (n, 2), input and target lengths; none above the capacity.
    capacity: input and target length of a row.

  Returns:
    Rows, as lists of indices into `lengths`, in the order they were opened.
  """
  capacity = np.asarray(capacity)
  if np.any(lengths > capacity):
    raise ValueError("an example is longer than a row")
  room = np.empty_like(lengths)
  rows: list[list[int]] = []
  for index, length in enumerate(lengths):
    fits = np.all(room[: len(rows)] >= length, axis=1)
    row = int(np.argmax(fits)) if fits.any() else len(rows)
    if row == len(rows):
      rows.append([])
      room[row] = capacity
    rows[row].append(index)
    room[row] -= length
  return rows


def to_batch(
  rows: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]], lengths: tuple[int, int]
) -> dict[str, np.ndarray]:
  """Lays examples out as the arrays of a batch.

  Args:
    rows: for each row its examples, as int32 (inputs, targets).
    lengths: input and target length of a row, s and t.

  Returns:
    int32 `encoder_input_tokens`, `encoder_segment_ids` (b, s),
    `decoder_input_tokens`, `decoder_target_tokens`, `decoder_segment_ids`
    (b, t) and float32 `decoder_loss_weights` (b, t). Segment ids count a row's
    examples from 1 and are 0 at padding. Decoder inputs are the targets shifted
    right within each example, behind a 0.
  """
  encoder = np.zeros((2, len(rows), lengths[0]), np.int32)
  decoder = np.zeros((3, len(rows), lengths[1]), np.int32)
  for r, examples in enumerate(rows):
    s = t = 0
    for segment, (inputs, targets) in enumerate(examples, start=1):
      span = slice(s, s + len(inputs))
      encoder[0, r, span], encoder[1, r, span] = inputs, segment
      span = slice(t, t + len(targets))
      decoder[0, r, span], decoder[1, r, span] = targets, segment
      decoder[2, r, t + 1 : t + len(targets)] = targets[:-1]
      s, t = s + len(inputs), t + len(targets)
  return {
    "encoder_input_tokens": encoder[0],
    "encoder_segment_ids": encoder[1],
    "decoder_input_tokens": decoder[2],
    "decoder_target_tokens": decoder[0],
    "decoder_segment_ids": decoder[1],
    "decoder_loss_weights": (decoder[1] > 0).astype(np.float32),
  }

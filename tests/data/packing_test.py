"""Packing: which examples share a row, and what a batch then holds."""

import numpy as np
import pytest
from store_data import examples

from t5tune.data import packing


def brute_force(lengths, capacity):
  """First fit, one example and one row at a time."""
  rows, room = [], []
  for i, (s, t) in enumerate(lengths):
    fitting = [
      r for r, (free_s, free_t) in enumerate(room) if s <= free_s and t <= free_t
    ]
    if not fitting:
      rows.append([])
      room.append(capacity)
    r = fitting[0] if fitting else len(rows) - 1
    rows[r].append(i)
    room[r] = (room[r][0] - s, room[r][1] - t)
  return rows


def members(rows: np.ndarray) -> list[list[int]]:
  """Returns the examples of each row."""
  return [np.flatnonzero(rows == r).tolist() for r in range(rows.max(initial=-1) + 1)]


@pytest.mark.parametrize("capacity", [(9, 4), (20, 8), (12, 300), (300, 5)])
@pytest.mark.parametrize("seed", range(5))
def test_first_fit_is_first_fit(capacity, seed):
  lengths = np.array([(len(s), len(t)) for s, t in examples(80, seed)])
  rows = members(packing.first_fit(lengths, capacity))
  assert rows == brute_force(lengths.tolist(), capacity)
  for row in rows:
    assert np.all(lengths[row].sum(axis=0) <= capacity)


def test_no_examples_no_rows():
  assert packing.first_fit(np.zeros((0, 2), int), (4, 4)).tolist() == []


@pytest.mark.parametrize("length", [(5, 1), (1, 5)])
def test_an_example_longer_than_a_row_is_a_bug(length):
  with pytest.raises(ValueError, match="longer than a row"):
    packing.first_fit(np.array([(1, 1), length]), (4, 4))


def test_batch_by_hand():
  def pair(*lists):
    return tuple(np.array(x, np.int32) for x in lists)

  rows = [[pair([5, 6], [7, 8, 1]), pair([9], [4, 1])], [pair([3, 3, 3], [1])], []]
  batch = packing.to_batch(rows, (4, 6))
  expected = {
    "encoder_input_tokens": [[5, 6, 9, 0], [3, 3, 3, 0], [0] * 4],
    "encoder_segment_ids": [[1, 1, 2, 0], [1, 1, 1, 0], [0] * 4],
    "decoder_target_tokens": [[7, 8, 1, 4, 1, 0], [1, 0, 0, 0, 0, 0], [0] * 6],
    "decoder_input_tokens": [[0, 7, 8, 0, 4, 0], [0] * 6, [0] * 6],
    "decoder_segment_ids": [[1, 1, 1, 2, 2, 0], [1, 0, 0, 0, 0, 0], [0] * 6],
    "decoder_loss_weights": [[1, 1, 1, 1, 1, 0], [1, 0, 0, 0, 0, 0], [0] * 6],
  }
  assert {k: v.tolist() for k, v in batch.items()} == expected
  assert batch.pop("decoder_loss_weights").dtype == np.float32
  assert {v.dtype for v in batch.values()} == {np.dtype(np.int32)}


@pytest.mark.parametrize("seed", range(4))
def test_a_packed_row_holds_its_examples_whole_and_apart(seed):
  made = examples(60, seed)
  lengths = np.array([(len(s), len(t)) for s, t in made])
  plan = members(packing.first_fit(lengths, (20, 9)))
  batch = packing.to_batch([[made[i] for i in row] for row in plan], (20, 9))
  for r, row in enumerate(plan):
    for segment, i in enumerate(row, start=1):
      inside = batch["encoder_segment_ids"][r] == segment
      assert batch["encoder_input_tokens"][r, inside].tolist() == made[i][0].tolist()
      inside = batch["decoder_segment_ids"][r] == segment
      targets = batch["decoder_target_tokens"][r, inside].tolist()
      assert targets == made[i][1].tolist()
      # Nothing of the example before it leaks into its first decoder input.
      assert batch["decoder_input_tokens"][r, inside].tolist() == [0, *targets[:-1]]
      assert np.all(batch["decoder_loss_weights"][r, inside] == 1)
  padding = batch["decoder_segment_ids"] == 0
  for name in ("decoder_input_tokens", "decoder_target_tokens", "decoder_loss_weights"):
    assert not batch[name][padding].any()
  assert batch["decoder_loss_weights"].sum() == lengths[:, 1].sum()

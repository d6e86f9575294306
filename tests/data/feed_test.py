"""The feed: what is fed, in which order, and from where it goes on."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from feed_data import config, take
from store_data import mixture

from t5tune.data import feed, token_store


def fed(batches) -> list[int]:
  """Returns the token of every example of some batches; each example has its own."""
  tokens = []
  for batch in batches:
    for row in batch["encoder_input_tokens"]:
      tokens += [token for token, _ in itertools.groupby(row[row > 0].tolist())]
  return tokens


def assert_equal(found, wanted):
  for f, w in zip(found, wanted, strict=True):
    assert f.keys() == w.keys()
    assert all(np.array_equal(f[k], w[k]) for k in w)


@pytest.mark.parametrize("pack", [True, False])
def test_an_epoch_feeds_every_example_once(tmp_path, pack):
  # Windows of an epoch's length: however short, it is whole before the next begins.
  made = mixture(tmp_path, sizes=(300,), rates=(1.0,), passes=3)
  data = feed.Feed(made, config(pack))
  batches, tokens = iter(data), []
  while len(tokens) < 5 * 300 + 200:
    tokens += fed(take(batches, 1))
  epochs = [tokens[300 * e : 300 * (e + 1)] for e in range(5)]
  for e, epoch in enumerate(epochs):
    first = 1000 * (e % 3)
    assert sorted(epoch) == list(range(first + 1, first + 301))
  orders = {tuple(token % 1000 for token in epoch) for epoch in epochs}
  assert len(orders) == 5  # each is shuffled anew


@pytest.mark.parametrize("pack", [True, False])
def test_batches_hold_the_drawn_examples(small_windows, three_tasks, pack):
  data = feed.Feed(three_tasks, config(pack))
  batches, state = iter(data), {"window": 0, "row": 0}
  found = []
  while state["window"] < 4:
    examples, shape, state = data.take(state)
    batch = next(batches)
    assert batches.get_state() == state
    # (task, pass, record) -> the token that the example is made of
    expected = 1000 * (2 * examples["task"] + examples["pass_index"])
    expected += examples["record"] + 1
    assert fed([batch]) == expected.tolist()
    assert batch["encoder_input_tokens"].shape == (6, shape[0])
    assert batch["decoder_target_tokens"].shape == (6, shape[1])
    assert shape in data.shapes
    segments = batch["encoder_segment_ids"].max(axis=1)
    assert segments.tolist() == np.bincount(examples["row"]).tolist()
    assert pack or np.all(segments == 1)
    found += expected.tolist()
  drawn = data.examples.draws(0, 4 * data.window)
  drawn = 1000 * (2 * drawn["task"] + drawn["pass_index"]) + drawn["record"] + 1
  drawn = drawn.reshape(4, -1)
  for window in drawn:
    part, found = found[: len(window)], found[len(window) :]
    assert sorted(part) == sorted(window.tolist())


def test_unpacked_batches_are_alike_in_length_and_less_padded(tmp_path):
  made = mixture(tmp_path, sizes=(3000,), rates=(1.0,))
  data = feed.Feed(made, feed.FeedConfig(8, 40, 20, False, 0))
  batches = take(iter(data), 300)
  shapes = {
    (b["encoder_input_tokens"].shape[1], b["decoder_input_tokens"].shape[1])
    for b in batches
  }
  assert shapes <= set(data.shapes) and 1 < len(data.shapes) <= 4
  filled = sum((b["encoder_segment_ids"] > 0).sum() for b in batches)
  room = sum(b["encoder_segment_ids"].size for b in batches)
  assert filled / room > 2 * filled / (300 * 8 * 40)


def test_the_seed_decides_the_order(three_tasks):
  def tokens(seed, pack):
    return fed(take(iter(feed.Feed(three_tasks, config(pack, seed=seed))), 20))

  for pack in (True, False):
    assert tokens(3, pack) == tokens(3, pack)
    assert tokens(3, pack) != tokens(4, pack)


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("rows", [[0, 1, 2], [5], [0, 3, 4], list(range(6))], ids=str)
def test_a_process_reads_its_rows_of_the_global_batch(
  small_windows, three_tasks, pack, rows
):
  whole = take(iter(feed.Feed(three_tasks, config(pack))), 6)
  data = feed.Feed(three_tasks, config(pack), np.asarray(rows))
  batches = iter(data)
  part = take(batches, 6)
  assert_equal(part, [{k: x[rows] for k, x in batch.items()} for batch in whole])
  # Where the feed stands does not depend on the rows.
  alone = iter(feed.Feed(three_tasks, config(pack)))
  take(alone, 6)
  assert batches.get_state() == alone.get_state()


def test_a_damaged_store_stops_the_feed_with_its_message(tmp_path):
  made = mixture(tmp_path, sizes=(12,), rates=(1.0,))
  data = feed.Feed(made, config(pack=False))
  (tmp_path / "0-0" / "tokens.bin").unlink()
  batches = data.batches()
  with pytest.raises(token_store.errors.UserError, match="delete that directory"):
    next(batches)
  batches.close()


def test_feeding_needs_no_tensorflow(tmp_path):
  made = mixture(tmp_path, sizes=(500,), rates=(1.0,))
  code = (
    "import json, sys\n"
    "from t5tune.data import build, feed, index\n"
    "made = index.PreparedMixture.from_json(json.loads(sys.argv[1]))\n"
    "data = feed.Feed(made, feed.FeedConfig(4, 24, 12, True, 0))\n"
    "batches = data.batches()\n"
    "next(batches)\n"
    "batches.close()\n"
    "data.summary(1)\n"
    "assert not {'tensorflow', 'seqio'} & set(sys.modules)\n"
  )
  flags = [sys.executable, "-c", code, json.dumps(made.to_json())]
  done = subprocess.run(flags, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
  "sizes,rates,packed,unpacked",
  [
    ((300,), (1,), 300, 288),
    ((400, 900, 150), (400, 900, 150), 1450, 1440),
    ((4000, 1000), (4000, 1000), 1250, 2048),  # parts of an epoch
    ((300, 1000), (1e6, 1), 300, 288),  # of the task that makes up all but all draws
    ((90,), (1,), 270, 64),  # whole epochs, as many as packing needs
    ((20,), (1,), 260, 32),
  ],
  ids=str,
)
def test_a_window_is_an_epoch_or_a_part_of_it(
  tmp_path, monkeypatch, sizes, rates, packed, unpacked
):
  monkeypatch.setattr(feed, "_WINDOW", 1500)
  made = mixture(tmp_path, sizes, rates)
  assert feed.Feed(made, config(True, batch_size=32)).window == packed
  assert feed.Feed(made, config(False, batch_size=32)).window == unpacked

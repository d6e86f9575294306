"""The feed: what is fed, in which order, and from where it goes on."""

import collections
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from store_data import mixture

from t5tune.data import feed, token_store

LENGTHS = (24, 12)


def config(pack: bool, batch_size: int = 6, seed: int = 0) -> feed.FeedConfig:
  return feed.FeedConfig(batch_size, *LENGTHS, pack, seed)


@pytest.fixture
def small_windows(monkeypatch):
  """Windows of 64 examples, so that a few batches cross several."""
  monkeypatch.setattr(feed, "_WINDOW", 64)


@pytest.fixture(scope="module")
def three_tasks(tmp_path_factory):
  """Tasks of 40, 90 and 13 examples, two passes each."""
  folder = tmp_path_factory.mktemp("stores")
  return mixture(folder, sizes=(40, 90, 13), rates=(2.0, 5.0, 1.0), passes=2)


def take(iterator, count: int) -> list:
  return list(itertools.islice(iterator, count))


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


def test_an_epoch_has_every_example_once_and_epochs_take_turns_with_passes(tmp_path):
  made = mixture(tmp_path, sizes=(30,), rates=(1.0,), passes=3)
  batches = iter(feed.Feed(made, config(pack=False)))
  epochs = [fed(take(batches, 5)) for _ in range(7)]
  for e, epoch in enumerate(epochs):
    first = 1000 * (e % 3)
    assert sorted(epoch) == list(range(first + 1, first + 31))
  orders = {tuple(token % 1000 for token in epoch) for epoch in epochs}
  assert len(orders) == 7  # each is shuffled anew


@pytest.mark.parametrize("pack", [True, False])
def test_batches_hold_the_planned_examples(small_windows, three_tasks, pack):
  data = feed.Feed(three_tasks, config(pack))
  wanted, rows = [], 0
  for window in range(3):
    plan, examples = data.plan(window)
    assert sorted(i for row in plan for i in row) == list(range(len(examples)))
    wanted += [examples[i] for row in plan for i in row]
    rows += len(plan)
  count = rows // 6
  batches = take(iter(data), count)
  tokens = fed(batches)
  # (task, pass, record) -> the token that its example is made of
  expected = [1000 * (2 * task + p) + record + 1 for task, p, record in wanted]
  assert tokens == expected[: len(tokens)]
  assert len(expected) - len(tokens) < 6 * LENGTHS[0]
  for batch in batches:
    assert batch["encoder_input_tokens"].shape == (6, LENGTHS[0])
    assert batch["decoder_target_tokens"].shape == (6, LENGTHS[1])
    segments = batch["encoder_segment_ids"].max(axis=1)
    assert np.all(segments >= 1)
    assert pack or np.all(segments == 1)


def test_rates_decide_the_share(three_tasks):
  order = feed.Feed(three_tasks, config(pack=False)).examples
  tasks = [order[i][0] for i in range(800)]
  for first in (0, 57, 400):
    counts = collections.Counter(tasks[first : first + 400])
    for task, share in enumerate((2 / 8, 5 / 8, 1 / 8)):
      assert counts[task] == pytest.approx(400 * share, abs=2)


def test_the_seed_decides_the_order(three_tasks):
  def order(seed):
    examples = feed.Feed(three_tasks, config(pack=False, seed=seed)).examples
    return [examples[i] for i in range(100)]

  assert order(3) == order(3)
  assert order(3) != order(4)


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("ahead", [True, False], ids=["thread", "plain"])
def test_restored_state_goes_on_with_the_next_batch(
  small_windows, three_tasks, pack, ahead
):
  data = feed.Feed(three_tasks, config(pack))
  start = data.batches if ahead else data.__iter__
  reference, states = start(), []
  batches = []
  for _ in range(23):
    states.append(json.loads(json.dumps(reference.get_state())))
    batches.append(next(reference))
  assert_equal(batches, take(iter(data), 23))
  for at in (0, 1, 5, 6, 13, 20):
    resumed = start()
    resumed.set_state(states[at])
    assert_equal(take(resumed, 3), batches[at : at + 3])
    if ahead:
      resumed.close()
  # Also back to where it was before, in the middle of its work.
  reference.set_state(states[4])
  assert_equal(take(reference, 2), batches[4:6])
  if ahead:
    reference.close()


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_global_batch(small_windows, three_tasks, pack, processes):
  whole = take(iter(feed.Feed(three_tasks, config(pack))), 6)
  parts = [
    take(iter(feed.Feed(three_tasks, config(pack), k, processes)), 6)
    for k in range(processes)
  ]
  joined = [
    {name: np.concatenate([part[name] for part in step]) for name in step[0]}
    for step in zip(*parts, strict=True)
  ]
  assert_equal(joined, whole)


@pytest.mark.parametrize("pack", [True, False])
def test_summary_against_brute_force(tmp_path, pack):
  sizes = (400, 900, 150)
  made = mixture(tmp_path, sizes=sizes, rates=(2.0, 5.0, 1.0), passes=2)
  data = feed.Feed(made, config(pack, batch_size=16))
  steps = 120
  summary = data.summary(steps)
  counts, tokens = collections.Counter(), collections.Counter()
  batches = take(iter(data), steps)
  totals = np.zeros(2)
  for batch in batches:
    for row in range(16):
      targets = batch["decoder_target_tokens"][row]
      totals += (batch["encoder_segment_ids"][row] > 0).sum(), (targets > 0).sum()
      for token, group in itertools.groupby(targets[targets > 0].tolist()):
        task = token // 2000  # two passes of up to 1000 examples
        counts[task] += 1
        tokens[task] += len(list(group))
  examples = counts.total()
  near = {"rel": 0.05}  # lengths are taken from the first pass, plans from two windows
  assert summary.examples_per_batch == pytest.approx(examples / steps, **near)
  assert summary.target_tokens_per_batch == pytest.approx(totals[1] / steps, **near)
  room = 16 * steps * np.array(LENGTHS)
  found = [summary.input_density, summary.target_density]
  assert found == pytest.approx((totals / room).tolist(), **near)
  assert summary.steps_per_epoch == pytest.approx(sum(sizes) * steps / examples, **near)
  assert [t.examples for t in summary.tasks] == list(sizes)
  assert [t.passes for t in summary.tasks] == [2, 2, 2]
  for k, task in enumerate(summary.tasks):
    assert task.share == pytest.approx(counts[k] / examples, abs=0.005)
    assert task.token_share == pytest.approx(tokens[k] / totals[1], abs=0.02)
    assert task.epochs == pytest.approx(counts[k] / task.examples, **near)
  assert sum(t.share for t in summary.tasks) == pytest.approx(1)
  assert sum(t.token_share for t in summary.tasks) == pytest.approx(1)


def test_a_damaged_store_stops_the_feed_with_its_message(tmp_path):
  made = mixture(tmp_path, sizes=(12,), rates=(1.0,))
  data = feed.Feed(made, config(pack=False))
  (tmp_path / "0-0" / "tokens.array_record").unlink()
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

"""The feed goes on from any state, in any process, with the very next batch."""

import json

import numpy as np
import pytest
from feed_data import config, take

from t5tune.data import feed, token_store


def assert_equal(found, wanted):
  for f, w in zip(found, wanted, strict=True):
    assert f.keys() == w.keys()
    assert all(np.array_equal(f[k], w[k]) for k in w)


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
    fresh = feed.Feed(three_tasks, config(pack))
    resumed = fresh.batches() if ahead else iter(fresh)
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
def test_the_state_at_any_step_is_known_without_reading(
  small_windows, three_tasks, pack, monkeypatch
):
  batches, states = iter(feed.Feed(three_tasks, config(pack))), []
  for _ in range(60):
    states.append(batches.get_state())
    next(batches)
  monkeypatch.setattr(token_store.TokenStore, "read_tokens", None)
  data = feed.Feed(three_tasks, config(pack))
  for step in (0, 1, 7, 30, 59):
    assert data.state_at(step) == states[step]
    known = [(k, states[k]) for k in (40, 3, 20)]
    assert data.state_at(step, known) == states[step]


def test_the_nearest_known_state_saves_planning(
  small_windows, three_tasks, monkeypatch
):
  data = feed.Feed(three_tasks, config(pack=True))
  known = [(step, data.state_at(step)) for step in (0, 500, 10)]
  expected = data.state_at(503)
  planned, plan = [], data.plan
  monkeypatch.setattr(data, "plan", lambda w: planned.append(w) or plan(w))
  assert data.state_at(503, known) == expected
  assert 1 <= len(planned) <= 3

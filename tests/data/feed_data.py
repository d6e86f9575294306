"""What the tests of the feed share: its settings, a mixture, small windows."""

import itertools

import pytest
from store_data import mixture

from t5tune.data import feed

LENGTHS = (24, 12)


def config(pack: bool, batch_size: int = 6, seed: int = 0) -> feed.FeedConfig:
  return feed.FeedConfig(batch_size, *LENGTHS, pack, seed)


@pytest.fixture
def small_windows(monkeypatch):
  """Windows of 64 examples, so that a few batches cross several."""
  monkeypatch.setattr(feed, "_WINDOW", 64)
  monkeypatch.setattr(feed, "_LEAST_WINDOW", 32)
  monkeypatch.setattr(feed, "_WINDOW_BATCHES", 5)


@pytest.fixture(scope="module")
def three_tasks(tmp_path_factory):
  """Tasks of 40, 90 and 13 examples, two passes each."""
  folder = tmp_path_factory.mktemp("stores")
  return mixture(folder, sizes=(40, 90, 13), rates=(2.0, 5.0, 1.0), passes=2)


def take(iterator, count: int) -> list:
  return list(itertools.islice(iterator, count))

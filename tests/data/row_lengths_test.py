"""Lengths of packed rows: both sides fill together, within bounds."""

import dataclasses

import numpy as np
import pytest
from store_data import write

from t5tune.data import feed, index, row_lengths
from t5tune.errors import UserError


@pytest.fixture(autouse=True)
def small_sample(monkeypatch):
  monkeypatch.setattr(row_lengths, "_SAMPLE", 1024)


def mixture(folder, *tasks, longest=(100, 100)) -> index.PreparedMixture:
  """Returns a mixture of tasks, each (rate, mean input length, mean target length)."""
  rng = np.random.default_rng(0)
  made = []
  for k, (rate, *means) in enumerate(tasks):
    sizes = rng.gamma(4, np.array(means) / 4, (300, 2)).astype(int) + 1
    sizes = np.minimum(sizes, longest)
    pairs = [tuple(np.full(n, 5, np.int32) for n in size) for size in sizes]
    made.append(index.PreparedTask(f"t{k}", rate, (write(folder / str(k), pairs),), {}))
  return index.PreparedMixture("made_up", tuple(made), "fingerprint")


def densities(made, lengths, seed: int = 0) -> tuple[float, float, float]:
  summary = feed.Feed(made, feed.FeedConfig(8, *lengths, True, seed)).summary(1)
  return summary.input_density, summary.target_density, summary.density


@pytest.mark.parametrize(
  "tasks",
  [[(1, 10, 10)], [(1, 12, 2)], [(1, 3, 9)], [(3, 20, 2), (1, 4, 16), (2, 9, 9)]],
  ids=["even", "inputs", "targets", "mixed"],
)
@pytest.mark.parametrize("longest", [(100, 100), (100, 37), (101, 100)])
def test_both_sides_fill_together(tmp_path, tasks, longest):
  made = mixture(tmp_path, *tasks, longest=longest)
  found = row_lengths.choose_row_lengths(made, longest, None, seed=0)
  for side, least in zip(found, longest, strict=True):
    assert side == least or (side > least and side % 8 == 0)
  assert sum(found) <= 2 * sum(longest)
  *sides, both = densities(made, found)
  assert both >= densities(made, longest)[2] - 0.01
  if all(side > least for side, least in zip(found, longest, strict=True)):
    assert abs(sides[0] - sides[1]) < 0.1  # they come in steps of 8 tokens


def test_an_uneven_mixture_gains_by_it(tmp_path):
  made = mixture(tmp_path, (1, 8, 16))
  found = row_lengths.choose_row_lengths(made, (100, 100), None, seed=0)
  assert found[0] == 100 and 176 <= found[1] <= 300
  assert densities(made, (100, 100))[2] < 0.78
  assert densities(made, found)[2] > 0.9


def test_rates_count_not_sizes(tmp_path):
  made = mixture(tmp_path, (1, 5, 15), (1, 15, 5))
  tasks = [
    tuple(
      dataclasses.replace(t, rate=r) for t, r in zip(made.tasks, rates, strict=True)
    )
    for rates in ((20, 1), (1, 20))
  ]
  targets, inputs = (
    row_lengths.choose_row_lengths(
      dataclasses.replace(made, tasks=t), (100, 100), None, 0
    )
    for t in tasks
  )
  assert targets[1] > targets[0] and inputs[0] > inputs[1]


@pytest.mark.parametrize("budget", [200, 201, 230, 1000])
def test_the_budget_is_kept_and_the_choice_is_the_same_again(tmp_path, budget):
  made = mixture(tmp_path, (1, 8, 16))
  found = row_lengths.choose_row_lengths(made, (100, 100), budget, seed=3)
  assert sum(found) <= budget
  assert found == row_lengths.choose_row_lengths(made, (100, 100), budget, seed=3)


def test_too_small_a_budget_is_named(tmp_path):
  made = mixture(tmp_path, (1, 8, 16))
  with pytest.raises(UserError, match=r"packed_tokens = 199.*Set it to 200 or more"):
    row_lengths.choose_row_lengths(made, (100, 100), 199, seed=0)

"""The order of examples: rates met, epochs whole, any part of it at once."""

import time

import numpy as np
import pytest

from t5tune.data import example_order


def random_order(seed: int, tasks: int, most: int = 60) -> example_order.ExampleOrder:
  """Returns an order of tasks of up to `most` examples, 1 to 3 passes, rates 1:1000."""
  rng = np.random.default_rng(seed)
  sizes = rng.integers(1, most + 1, tasks)
  rates = np.exp(rng.uniform(0, np.log(1000), tasks))
  return example_order.ExampleOrder(sizes, rng.integers(1, 4, tasks), rates, seed)


@pytest.mark.parametrize("seed", range(6))
def test_epochs_of_every_task_are_permutations_one_after_the_other(seed):
  order = random_order(seed, tasks=1 + 3 * seed)
  draws = order.draws(0, 6000)
  for task, (size, passes) in enumerate(zip(order._sizes, order._passes, strict=True)):
    own = draws[draws[:, 0] == task]
    whole = len(own) // size
    epochs = own[: whole * size].reshape(whole, size, 3)
    assert np.all(np.sort(epochs[..., 2]) == np.arange(size))
    assert np.all(epochs[..., 1] == (np.arange(whole) % passes)[:, None])
    rest = own[whole * size :, 2]
    assert len(set(rest)) == len(rest)
    if size > 20 and whole > 1:
      assert np.any(epochs[0, :, 2] != epochs[1, :, 2])  # shuffled anew


@pytest.mark.parametrize("seed", range(4))
def test_every_part_is_that_of_the_whole(seed):
  order = random_order(seed, tasks=9)
  whole = order.draws(0, 5000)
  assert whole.shape == (5000, 3)
  fresh = random_order(seed, tasks=9)  # no shuffle is at hand yet
  rng = np.random.default_rng(seed)
  for start in rng.integers(0, 4900, 20):
    count = int(rng.integers(1, 5000 - start))
    part = fresh.draws(int(start), count)
    np.testing.assert_array_equal(part, whole[start : start + count])


@pytest.mark.parametrize("start", [0, 10**6, 10**9])
@pytest.mark.parametrize("tasks", [1, 2, 13, 473])
def test_every_stretch_meets_the_rates(tasks, start):
  # Far closer than sampling would: to within two draws a task.
  order = random_order(tasks, tasks)
  draws = order.draws(start, 100_000)[:, 0]
  for stretch in (draws, draws[50_000:51_000], draws[:64]):
    counts = np.bincount(stretch, minlength=tasks)
    assert np.abs(counts - len(stretch) * order.shares).max() <= 2
  assert order.shares.sum() == pytest.approx(1)


def test_no_draw_is_lost_or_repeated_far_out():
  order = random_order(3, tasks=40)
  start = 7 * 10**9
  apart = [order.draws(start + i, 1) for i in range(300)]
  np.testing.assert_array_equal(np.concatenate(apart), order.draws(start, 300))


def test_the_seed_decides():
  first, again, other = (
    example_order.ExampleOrder([50, 20], [1, 2], [3.0, 1.0], seed).draws(0, 200)
    for seed in (4, 4, 5)
  )
  np.testing.assert_array_equal(first, again)
  assert np.any(first != other)


def test_far_draws_cost_no_more_than_near_ones():
  order = random_order(0, tasks=100, most=2000)

  def seconds(start: int) -> float:
    began = time.perf_counter()
    order.draws(start, 1000)
    return time.perf_counter() - began

  seconds(0)
  assert seconds(10**10) < 0.5 + 20 * seconds(10**3)

"""The order of a mixture's examples: tasks by their rates, each in epochs of its own.

Any draw of the endless order can be asked for directly, at the same cost.
"""

import math
from collections.abc import Sequence

import numpy as np

from t5tune.data import packing


class ExampleOrder:
  """The endless order of a mixture's examples, a function of the seed alone.

  Each task is shuffled anew in every epoch of its own. The tasks take turns evenly:
  draw j of task k is due at (j + 1 - offset_k) / share_k, where the offset is the
  task's own, in [0, 1), and draws come when they are due. So whatever part of the order
  is looked at, a task has its share of it to within two draws or so, better than
  drawing tasks at random.
  """

  def __init__(
    self, sizes: Sequence[int], passes: Sequence[int], rates: Sequence[float], seed: int
  ):
    """Keeps what decides the order.

    Args:
      sizes: examples of each task.
      passes: how many versions of its examples each task has; epoch e draws from
        version e modulo their number.
      rates: mixing rate of each task, above 0.
      seed: seed of offsets and shuffles, 0 to 2**32 - 1.
    """
    total = math.fsum(rates)
    self.shares = np.asarray([rate / total for rate in rates])
    self._sizes, self._passes, self._seed = list(sizes), list(passes), seed
    # RandomState's stream is frozen: the order holds under any numpy.
    self._offsets = np.random.RandomState([seed]).random_sample(len(self.shares))
    # Of each task the shuffle used last.
    self._shuffles: list[tuple[int, np.ndarray]] = [(-1, np.zeros(0))] * len(sizes)

  def draws(self, start: int, count: int) -> np.ndarray:
    """Returns a part of the order.

    Args:
      start: the first draw.
      count: how many.

    Returns:
      int64 (count, 3): task, pass and record of each draw.
    """
    tasks, numbers = self._turns(start, count)
    found = np.stack([tasks, tasks, tasks], axis=1)
    by_task = np.argsort(tasks, kind="stable")
    present, first = np.unique(tasks[by_task], return_index=True)
    for task, places in zip(present, np.split(by_task, first[1:]), strict=True):
      found[places, 1:] = self._examples(int(task), numbers[places])
    return found

  def _turns(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns of each draw its task and how many draws that task had before it."""
    # By time T a task had floor(T * share + offset) draws, all of them together
    # between T + sum(offsets) - tasks and T + sum(offsets). So these two times lie
    # before and after the draws in question; 2 more, since floats are rounded.
    middle, spread = start - self._offsets.sum(), len(self.shares)
    begin = self._draws_before(middle - 2)
    end = self._draws_before(middle + count + spread + 2)
    tasks = np.repeat(np.arange(spread), end - begin)
    numbers = packing.ranges(begin, end)
    due = (numbers + 1 - self._offsets[tasks]) / self.shares[tasks]
    skipped = start - begin.sum()
    chosen = np.lexsort((tasks, due))[skipped : skipped + count]
    return tasks[chosen], numbers[chosen]

  def _draws_before(self, time: float) -> np.ndarray:
    due = np.floor(time * self.shares + self._offsets).astype(np.int64)
    return np.maximum(due, 0)

  def _examples(self, task: int, numbers: np.ndarray) -> np.ndarray:
    """Returns pass and record of some successive draws of a task."""
    epochs, places = np.divmod(numbers, self._sizes[task])
    found = np.empty((len(numbers), 2), np.int64)
    found[:, 0] = epochs % self._passes[task]
    for epoch in range(epochs[0], epochs[-1] + 1):
      inside = slice(*np.searchsorted(epochs, [epoch, epoch + 1]))
      found[inside, 1] = self._shuffle(task, epoch)[places[inside]]
    return found

  def _shuffle(self, task: int, epoch: int) -> np.ndarray:
    kept, shuffle = self._shuffles[task]
    if kept != epoch:
      random = np.random.RandomState([self._seed, task, epoch])
      shuffle = random.permutation(np.arange(self._sizes[task], dtype=np.int32))
      self._shuffles[task] = epoch, shuffle
    return shuffle

"""The feed: prepared tokens, shuffled, mixed and packed into batches, on Grain.

The whole state of the feed is two integers (`get_state`), so a resumed run goes
on with the very next row, at the same cost whatever the step. The plan (which
examples make up which row) follows from the stored lengths alone: every process
computes the same one and reads only its own rows.
"""

import dataclasses
import functools
import math
from typing import Any

import grain
import numpy as np

from t5tune.data import index, packing, token_store

# Examples that are packed together. Larger windows fill rows better and cost more
# to plan again on resume.
_WINDOW = 2048


@dataclasses.dataclass(frozen=True)
class FeedConfig:
  """How prepared tokens become batches.

  Attributes:
    batch_size: rows of a global batch.
    input_length: input length of a row.
    target_length: target length of a row.
    pack: whether several examples share a row.
    seed: seed of the shuffles.
  """

  batch_size: int
  input_length: int
  target_length: int
  pack: bool
  seed: int

  @property
  def lengths(self) -> tuple[int, int]:
    return self.input_length, self.target_length


class Feed(grain.IterDataset):
  """An endless stream of batches; see `packing.to_batch` for their arrays.

  Iterators have Grain's `get_state` and `set_state`.
  """

  def __init__(
    self,
    mixture: index.PreparedMixture,
    config: FeedConfig,
    process_index: int = 0,
    process_count: int = 1,
  ):
    """Opens the stores of a mixture.

    Args:
      mixture: the prepared mixture.
      config: batch size, lengths, packing and seed.
      process_index: which of the processes this is.
      process_count: how many share each global batch; each gets its own part
        of the rows.
    """
    super().__init__()
    self.config, self._mixture = config, mixture
    self.stores = [
      [token_store.TokenStore(p) for p in task.passes] for task in mixture.tasks
    ]
    self.examples = example_order(mixture, self.stores, config.seed)
    per_process = config.batch_size // process_count
    self.row_slice = slice(
      process_index * per_process, (process_index + 1) * per_process
    )

  def __iter__(self) -> grain.DatasetIterator:
    return _FeedIterator(self)

  def batches(self) -> grain.DatasetIterator:
    """Returns an iterator that makes batches ahead in a thread."""
    return iter(
      grain.experimental.ThreadPrefetchIterDataset(self, prefetch_buffer_size=4)
    )

  def plan(self, window: int) -> tuple[list[list[int]], list[tuple[int, int, int]]]:
    """Returns a window's rows, and its examples as (task, pass, record)."""
    span = _WINDOW if self.config.pack else self.config.batch_size
    examples = [self.examples[window * span + i] for i in range(span)]
    if not self.config.pack:
      return [[i] for i in range(span)], examples
    lengths = np.stack([self.stores[t][p].lengths[i] for t, p, i in examples])
    return packing.first_fit(lengths, self.config.lengths), examples

  @functools.cached_property
  def steps_per_epoch(self) -> float:
    """Batches in which as many examples go by as the mixture's tasks hold."""
    return self.summary(1).steps_per_epoch

  def summary(self, train_steps: int) -> "FeedSummary":
    """Returns what a run will see, estimated from the first windows' plan.

    Args:
      train_steps: length of the run, in batches.
    """
    config, tasks = self.config, self._mixture.tasks
    windows = 2 if config.pack else math.ceil(2 * _WINDOW / config.batch_size)
    plans = [self.plan(w) for w in range(windows)]
    num_examples = sum(len(examples) for _, examples in plans)
    per_batch = num_examples / sum(len(r) for r, _ in plans) * config.batch_size
    rates = np.asarray([task.rate for task in tasks])
    shares = rates / rates.sum()
    sizes = [len(passes[0]) for passes in self.stores]
    means = np.asarray([passes[0].lengths.mean(axis=0) for passes in self.stores])
    tokens = shares @ means  # of an example: input and target tokens
    return FeedSummary(
      tasks=tuple(
        TaskShare(
          name=task.name,
          examples=size,
          share=float(share),
          token_share=float(share * mean[1] / tokens[1]),
          epochs=float(train_steps * per_batch * share / size),
          passes=len(task.passes),
        )
        for task, size, share, mean in zip(tasks, sizes, shares, means, strict=True)
      ),
      examples_per_batch=per_batch,
      target_tokens_per_batch=float(tokens[1] * per_batch),
      input_density=float(
        tokens[0] * per_batch / config.batch_size / config.lengths[0]
      ),
      target_density=float(
        tokens[1] * per_batch / config.batch_size / config.lengths[1]
      ),
      steps_per_epoch=sum(sizes) / per_batch,
    )


class _FeedIterator(grain.DatasetIterator):
  """Where the feed stands: the window and the next of its rows."""

  def __init__(self, feed: Feed):
    super().__init__()
    self._feed = feed
    self._window, self._row = 0, 0
    self._planned: tuple[int, Any] = (-1, None)

  def __next__(self) -> dict[str, np.ndarray]:
    feed, rows = self._feed, []
    while len(rows) < feed.config.batch_size:
      plan, examples = self._plan()
      if self._row >= len(plan):
        self._window, self._row = self._window + 1, 0
        continue
      rows.append([examples[i] for i in plan[self._row]])
      self._row += 1
    rows = [[self._read(e) for e in row] for row in rows[feed.row_slice]]
    return packing.to_batch(rows, feed.config.lengths)

  def get_state(self) -> dict[str, int]:
    return {"window": self._window, "row": self._row}

  def set_state(self, state: dict[str, int]):
    self._window, self._row = state["window"], state["row"]

  def _plan(self):
    if self._planned[0] != self._window:
      self._planned = self._window, self._feed.plan(self._window)
    return self._planned[1]

  def _read(self, example):
    task, pass_index, record = example
    return self._feed.stores[task][pass_index][record]


def example_order(
  mixture: index.PreparedMixture, stores, seed: int
) -> grain.MapDataset:
  """Returns the endless order of a mixture's examples, as (task, pass, record).

  Each task is shuffled anew in every epoch of its own and takes turns by its
  rate.

  Args:
    mixture: names and rates of the tasks.
    stores: for each task its passes.
    seed: seed of the shuffles.
  """

  # Not Grain's shuffle: it takes 4 ms an example for a task of ten rows.
  @functools.lru_cache(maxsize=4 * len(stores))
  def shuffled(task, epoch, count):
    # RandomState's stream is frozen: the order holds under any numpy.
    return np.random.RandomState([seed, task, epoch]).permutation(count)

  def order(task, passes):
    count = len(passes[0])

    def locate(index, record):
      epoch = index // count
      return task, epoch % len(passes), int(shuffled(task, epoch, count)[record])

    return grain.MapDataset.range(count).repeat().map_with_index(locate)

  orders = [order(task, passes) for task, passes in enumerate(stores)]
  return grain.MapDataset.mix(orders, [task.rate for task in mixture.tasks])


@dataclasses.dataclass(frozen=True)
class TaskShare:
  """What a run sees of a task: the line of the mixture table.

  Attributes:
    name: the task's name.
    examples: examples it has.
    share: its share of the examples fed, 0 to 1.
    token_share: its share of the target tokens fed, 0 to 1.
    epochs: how often the run will see each of its examples, on average.
    passes: versions of its examples (templates drawn anew) on disk.
  """

  name: str
  examples: int
  share: float
  token_share: float
  epochs: float
  passes: int


@dataclasses.dataclass(frozen=True)
class FeedSummary:
  """What a run will see, from the stored lengths.

  Attributes:
    tasks: a line for each task.
    examples_per_batch: mean examples of a global batch.
    target_tokens_per_batch: mean target tokens of a global batch.
    input_density: share of input positions that are not padding.
    target_density: share of target positions that are not padding.
    steps_per_epoch: batches after which as many examples went by as the
      mixture's tasks hold.
  """

  tasks: tuple[TaskShare, ...]
  examples_per_batch: float
  target_tokens_per_batch: float
  input_density: float
  target_density: float
  steps_per_epoch: float

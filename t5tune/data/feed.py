"""The feed: prepared tokens, shuffled, mixed and packed into batches.

The plan (which examples make up which row) follows from the seed and the stored
lengths alone: every process computes the same one and reads only its own rows. So the
whole state of the feed is two integers, the window and the next of its rows, and a
resumed run goes on with the very next row, at the same cost whatever the step. Grain
makes batches ahead in a thread.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import grain
import numpy as np

from t5tune.data import feed_summary, index, length_buckets, mixture_examples, packing

# Examples that are packed together. Larger windows fill rows better and cost more
# to plan again on resume (40 ms).
_WINDOW = 8192
_LEAST_WINDOW = 256  # of data sets with few rows
_WINDOW_BATCHES = 64  # unpacked batches that are put together from alike examples
_SAMPLE = 4096  # examples whose lengths decide the shapes of unpacked batches


@dataclasses.dataclass(frozen=True)
class FeedConfig:
  """How prepared tokens become batches.

  Attributes:
    batch_size: rows of a global batch.
    input_length: input length of a row.
    target_length: target length of a row.
    pack: whether several examples share a row. Where they do not, a batch is made of
      examples alike in length and may be of a smaller shape.
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


@dataclasses.dataclass(frozen=True)
class Plan:
  """The rows of a window.

  Attributes:
    examples: EXAMPLE (n,), by row.
    begins: int64 (rows + 1,): where the examples of each row begin, and n.
    shapes: int64 (rows, 2): input and target length of each row.
  """

  examples: np.ndarray
  begins: np.ndarray
  shapes: np.ndarray

  @property
  def num_rows(self) -> int:
    return len(self.shapes)

  def rows(self, first: int, count: int) -> np.ndarray:
    """Returns the examples of successive rows, which then count from 0."""
    examples = self.examples[self.begins[first] : self.begins[first + count]].copy()
    examples["row"] -= first
    return examples


class Feed(grain.IterDataset):
  """An endless stream of batches; see `packing.lay_out` for their arrays.

  Iterators have Grain's `get_state` and `set_state`.
  """

  def __init__(
    self,
    mixture: index.PreparedMixture,
    config: FeedConfig,
    rows: np.ndarray | None = None,
  ):
    """Opens the stores of a mixture.

    Args:
      mixture: the prepared mixture.
      config: batch size, lengths, packing and seed.
      rows: the rows of each global batch that are read, in order; None for all. A
        process reads those of its own devices (`partitioning.process_rows`).
    """
    super().__init__()
    self.config, self.mixture = config, mixture
    self.examples = mixture_examples.MixtureExamples(mixture, config.seed)
    self.rows = np.arange(config.batch_size) if rows is None else rows
    self.window = _window(round(self.examples.epoch), config)
    # Kept are the plan that is being fed and the one after it.
    self.plan = functools.lru_cache(maxsize=2)(self._plan)

  def __iter__(self) -> grain.DatasetIterator:
    return _FeedIterator(self)

  def batches(self) -> grain.DatasetIterator:
    """Returns an iterator that makes batches ahead in a thread."""
    return iter(
      grain.experimental.ThreadPrefetchIterDataset(self, prefetch_buffer_size=4)
    )

  def _plan(self, window: int) -> Plan:
    """Returns the rows of a window, by lengths alone."""
    examples = self.examples.draws(window * self.window, self.window)
    # Neither the row that was opened first nor the batch of the shortest comes first.
    random = np.random.RandomState([self.config.seed, window])
    if self.config.pack:
      rows = packing.first_fit(examples["lengths"], self.config.lengths)
      num_rows = int(rows.max()) + 1
      shapes = np.tile(self.config.lengths, (num_rows, 1))
      examples["row"] = random.permutation(num_rows)[rows]
    else:
      size = self.config.batch_size
      order, buckets = length_buckets.assign(examples["lengths"], self.shapes, size)
      batches = random.permutation(len(buckets))
      shapes = np.repeat(np.asarray(self.shapes)[buckets[batches]], size, axis=0)
      examples = examples[order.reshape(-1, size)[batches].reshape(-1)]
      examples["row"] = np.arange(len(examples))
    examples = examples[np.argsort(examples["row"], kind="stable")]
    begins = np.searchsorted(examples["row"], np.arange(len(shapes) + 1))
    return Plan(examples, begins, shapes)

  @functools.cached_property
  def shapes(self) -> list[tuple[int, int]]:
    """The input and target lengths that the rows of a batch may have."""
    if self.config.pack:
      return [self.config.lengths]
    lengths = self.examples.draws(0, _SAMPLE)["lengths"]
    return length_buckets.choose_shapes(lengths, self.config.lengths)

  def take(
    self, state: dict[str, int]
  ) -> tuple[np.ndarray, tuple[int, int], dict[str, int]]:
    """Plans a batch, without reading it.

    Args:
      state: where the feed stands.

    Returns:
      EXAMPLE (n,), the examples of the global batch by row; input and target length
      of its rows; where the feed stands behind them.
    """
    window, row = state["window"], state["row"]
    parts, missing = [], self.config.batch_size
    while missing:
      plan = self.plan(window)
      count = min(missing, plan.num_rows - row)
      part = plan.rows(row, count)
      part["row"] += self.config.batch_size - missing
      parts.append(part)
      shape = plan.shapes[row]  # unpacked, the batches of a window are whole
      missing, row = missing - count, row + count
      if row == plan.num_rows:
        window, row = window + 1, 0
    behind = {"window": window, "row": row}
    return np.concatenate(parts), tuple(shape.tolist()), behind

  def read(self, examples: np.ndarray, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Reads this process's rows of a planned batch; see `packing.lay_out`.

    Args:
      examples: EXAMPLE (n,), as `take` returns them.
      shape: input and target length of the rows.
    """
    examples = examples[np.isin(examples["row"], self.rows)]
    rows = np.searchsorted(self.rows, examples["row"])
    tokens = self.examples.read_tokens(examples)
    return packing.lay_out(tokens, examples["lengths"], rows, (len(self.rows), *shape))

  def state_at(
    self, step: int, known: Sequence[tuple[int, dict[str, int]]] = ()
  ) -> dict[str, int]:
    """Returns where the feed stands after some batches; no token is read for it.

    Args:
      step: batches taken; the next one is the batch of update `step + 1`.
      known: (batches taken, state) where that is known, from checkpoints; packed,
        every window since the nearest earlier one is planned (100,000 examples
        a second and more).
    """
    size = self.config.batch_size
    if not self.config.pack:
      window, row = divmod(step * size, self.window)
      return {"window": window, "row": row}
    earlier = [(0, {"window": 0, "row": 0}), *(k for k in known if k[0] <= step)]
    taken, state = max(earlier, key=lambda k: k[0])
    window, row = state["window"], state["row"] + (step - taken) * size
    while row >= (num_rows := self.plan(window).num_rows):
      window, row = window + 1, row - num_rows
    return {"window": window, "row": row}

  @functools.cached_property
  def steps_per_epoch(self) -> float:
    """Batches in which as many examples go by as the mixture's tasks hold."""
    return self.summary(1).steps_per_epoch

  def summary(self, train_steps: int) -> feed_summary.FeedSummary:
    """Returns what a run will see, estimated from the first windows' plan.

    Args:
      train_steps: length of the run, in batches.
    """
    plans = [self.plan(w) for w in range(math.ceil(2 * _WINDOW / self.window))]
    return feed_summary.summarize(
      self.mixture,
      [passes[0] for passes in self.examples.stores],
      self.examples.order.shares,
      np.concatenate([plan.examples["lengths"] for plan in plans]),
      np.concatenate([plan.shapes for plan in plans]),
      self.config.batch_size,
      train_steps,
    )


class _FeedIterator(grain.DatasetIterator):
  """Where the feed stands: the window and the next of its rows."""

  def __init__(self, feed: Feed):
    super().__init__()
    self._feed = feed
    self._state = {"window": 0, "row": 0}

  def __next__(self) -> dict[str, np.ndarray]:
    examples, shape, behind = self._feed.take(self._state)
    batch = self._feed.read(examples, shape)
    self._state = behind
    return batch

  def get_state(self) -> dict[str, int]:
    return dict(self._state)

  def set_state(self, state: dict[str, int]):
    self._state = {"window": state["window"], "row": state["row"]}


def _window(epoch: int, config: FeedConfig) -> int:
  """Returns how many draws are planned together.

  No more than it takes for an example to come by once, or else one could come many
  times before another came at all; except where packing would suffer.
  """
  if not config.pack:
    batches = min(epoch // config.batch_size, _WINDOW_BATCHES)
    return config.batch_size * max(batches, 1)
  if epoch < _LEAST_WINDOW:
    return epoch * math.ceil(_LEAST_WINDOW / epoch)
  return math.ceil(epoch / math.ceil(epoch / _WINDOW))

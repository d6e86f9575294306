"""The examples of a prepared mixture: the order they are drawn in, and their tokens."""

import numpy as np

from t5tune.data import example_order, index, packing, token_store

# An example that is drawn: the row of a batch it stands in, where it lies, and its
# input and target length.
EXAMPLE = np.dtype(
  [
    *(("row", np.int64), ("task", np.int64), ("pass_index", np.int64)),
    *(("record", np.int64), ("lengths", np.int64, (2,))),
  ]
)


class MixtureExamples:
  """The training stores of a mixture.

  Attributes:
    stores: for each task its passes.
    order: the order in which their examples are drawn.
  """

  def __init__(self, mixture: index.PreparedMixture, seed: int):
    """Opens the stores.

    Args:
      mixture: the prepared mixture.
      seed: seed of the shuffles.
    """
    self.stores = [
      [token_store.TokenStore(p) for p in task.passes] for task in mixture.tasks
    ]
    self.order = example_order.ExampleOrder(
      self.sizes,
      [len(passes) for passes in self.stores],
      [task.rate for task in mixture.tasks],
      seed,
    )

  @property
  def sizes(self) -> list[int]:
    """Examples of each task."""
    return [len(passes[0]) for passes in self.stores]

  @property
  def epoch(self) -> float:
    """Draws in which the examples drawn come by once, on average over the draws."""
    return 1 / float((self.order.shares**2 / self.sizes).sum())

  def draws(self, start: int, count: int) -> np.ndarray:
    """Returns examples in the order they are drawn, without reading their tokens.

    Args:
      start: the first draw.
      count: how many.

    Returns:
      EXAMPLE (count,), all of row 0.
    """
    found = np.zeros(count, EXAMPLE)
    draws = self.order.draws(start, count)
    found["task"], found["pass_index"], found["record"] = draws.T
    for part, places in _by_store(found):
      found["lengths"][places] = self._store(part).lengths[part["record"]]
    return found

  def read_tokens(self, examples: np.ndarray) -> np.ndarray:
    """Reads tokens, those of one store together.

    Args:
      examples: EXAMPLE (n,).

    Returns:
      int32 (tokens,): of each example its inputs, then its targets.
    """
    tokens = [np.zeros(0, np.int32)]
    order = [np.zeros(0, np.int64)]
    for part, places in _by_store(examples):
      tokens.append(self._store(part).read_tokens(part["record"]))
      order.append(places)
    sizes = examples["lengths"].sum(axis=1)
    read = sizes[np.concatenate(order)]
    begins = np.empty_like(sizes)
    begins[np.concatenate(order)] = np.cumsum(read) - read
    return np.concatenate(tokens)[packing.ranges(begins, begins + sizes)]

  def _store(self, examples: np.ndarray) -> token_store.TokenStore:
    """Returns the one store that some examples lie in."""
    return self.stores[examples[0]["task"]][examples[0]["pass_index"]]


def _by_store(examples: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
  """Returns the examples of each store, and their places among all of them."""
  order = np.lexsort((examples["pass_index"], examples["task"]))
  found = examples[order]
  changes = (np.diff(found["task"]) != 0) | (np.diff(found["pass_index"]) != 0)
  cuts = np.flatnonzero(changes) + 1
  parts = zip(np.split(found, cuts), np.split(order, cuts), strict=True)
  return [(part, places) for part, places in parts if len(part)]

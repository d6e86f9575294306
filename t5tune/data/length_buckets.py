"""Length buckets: unpacked batches of examples that are alike in length."""

import numpy as np

MOST_SHAPES = 4  # each is compiled anew
_LEAST_SAVING = 0.05  # of the positions, for another shape to be worth it
_GRID = 16  # lengths tried on either side


def choose_shapes(
  lengths: np.ndarray, longest: tuple[int, int]
) -> list[tuple[int, int]]:
  """Chooses the few row lengths that batches are padded to.

  Each shape holds the one before it, so that any examples fit one shape together. Of
  all such chains over a grid of lengths, the one with the fewest positions.

  Args:
    lengths: int (n, 2), input and target lengths of a sample.
    longest: input and target length of the largest shape.

  Returns:
    Up to `MOST_SHAPES` pairs of input and target length, from the smallest to
    `longest`; multiples of 8 but for the last.
  """
  grid = [_grid(lengths[:, side], longest[side]) for side in (0, 1)]
  bins = [np.searchsorted(g, lengths[:, k]) for k, g in enumerate(grid)]
  counts = np.zeros([len(g) for g in grid])
  np.add.at(counts, tuple(bins), 1)
  pairs = np.stack(np.meshgrid(*grid, indexing="ij"), -1).reshape(-1, 2)
  share = counts.cumsum(0).cumsum(1).reshape(-1) / len(lengths)  # that fits each pair
  size = pairs.sum(axis=1)
  holds = np.all(pairs[:, None] <= pairs, axis=2)  # [a, b]: b holds a

  # Positions of an example so far, over the chains that end in each pair.
  cost, chains = share * size, [[p] for p in range(len(pairs))]
  best = [(cost[-1], chains[-1])]
  for _ in range(MOST_SHAPES - 1):
    added = cost[:, None] + (share - share[:, None]) * size
    added[~holds] = np.inf
    before = added.argmin(axis=0)
    cost = added[before, np.arange(len(pairs))]
    chains = [[*chains[a], b] for b, a in enumerate(before)]
    best.append((cost[-1], chains[-1]))
  chosen = best[0]
  for candidate in best[1:]:
    if candidate[0] < chosen[0] * (1 - _LEAST_SAVING):
      chosen = candidate
  return [tuple(pairs[p].tolist()) for p in dict.fromkeys(chosen[1])]


def _grid(lengths: np.ndarray, longest: int) -> np.ndarray:
  """Returns candidates for one side: multiples of 8 at quantiles, and the longest."""
  quantiles = np.quantile(lengths, np.arange(1, _GRID + 1) / _GRID)
  rounded = np.ceil(quantiles / 8).astype(int) * 8
  return np.unique([*rounded[rounded < longest], longest])


def assign(
  lengths: np.ndarray, shapes: list[tuple[int, int]], batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
  """Groups examples into batches of one shape.

  Args:
    lengths: int (n, 2), input and target lengths; n a multiple of the batch size.
    shapes: as `choose_shapes` returns them.
    batch_size: examples of a batch.

  Returns:
    The examples' order, int64 (n,), cut into batches from its beginning, and the shape
    of each batch, an index into `shapes`.
  """
  fits = np.all(lengths[:, None] <= np.asarray(shapes), axis=2)
  smallest = fits.argmax(axis=1)
  order = np.argsort(smallest, kind="stable")
  return order, smallest[order].reshape(-1, batch_size).max(axis=1)

"""Token stores of made-up examples, and mixtures of them."""

import itertools
import pathlib
from collections.abc import Sequence

import numpy as np

from t5tune.data import index, token_store

Example = tuple[np.ndarray, np.ndarray]


def examples(count: int, seed: int = 0, longest: int = 9, first: int = 0) -> list:
  """Returns (inputs, targets) of random lengths from 1.

  Args:
    count: how many.
    seed: seed of the lengths.
    longest: longest input; targets are at most half as long.
    first: token that the first example is made of; the next has the next. Both sides
      of an example are this token over and over, so that it can be told anywhere.
  """
  rng = np.random.default_rng(seed)
  sizes = zip(
    rng.integers(1, longest + 1, count),
    rng.integers(1, max(longest // 2, 1) + 1, count),
    strict=True,
  )
  return [
    (np.full(s, first + i + 1, np.int32), np.full(t, first + i + 1, np.int32))
    for i, (s, t) in enumerate(sizes)
  ]


def write(path: pathlib.Path, made: Sequence[Example], **manifest) -> str:
  """Writes a store; the key of an example is its first token."""
  with token_store.writing(path, keep_rows=False) as writer:
    for inputs, targets in made:
      writer.append(inputs, targets, {}, int(inputs[0]))
    writer.manifest = manifest
  return str(path)


def mixture(
  folder: pathlib.Path, sizes: Sequence[int], rates: Sequence[float], passes: int = 1
) -> index.PreparedMixture:
  """Writes a mixture; every example of every task and pass has a token of its own."""
  numbers = itertools.count(step=1000)
  tasks = tuple(
    index.PreparedTask(
      name=f"task{k}",
      rate=rate,
      passes=tuple(
        write(folder / f"{k}-{p}", examples(size, seed=k + p, first=next(numbers)))
        for p in range(passes)
      ),
      splits={},
    )
    for k, (size, rate) in enumerate(zip(sizes, rates, strict=True))
  )
  return index.PreparedMixture("made_up", tasks, "fingerprint")

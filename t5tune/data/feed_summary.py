"""What a run will see of its data, from stored lengths and manifests."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from t5tune.data import index, token_store


@dataclasses.dataclass(frozen=True)
class TaskShare:
  """What a run sees of a task: the line of the mixture table.

  What a pipeline did to the rows is of the first pass, and None where it is not known.

  Attributes:
    name: the task's name.
    rows: rows of its training split.
    examples: examples that its preprocessors made of them.
    skipped: bad rows that were left out.
    skip_report: what is wrong with the first of them.
    rate: its mixing rate.
    share: its share of the examples fed, 0 to 1.
    token_share: its share of the target tokens fed, 0 to 1.
    epochs: how often the run will see each of its examples, on average.
    passes: versions of its examples (templates drawn anew) on disk.
    truncated_inputs: share of the inputs that were cut to their longest, 0 to 1.
    truncated_targets: share of the targets that were cut, 0 to 1.
    lost_input_tokens: tokens of inputs that were cut away.
    lost_target_tokens: tokens of targets that were cut away.
    lost_characters: character that the vocabulary cannot express -> how often it
      stood in inputs and targets.
  """

  name: str
  rows: int | None
  examples: int
  skipped: int | None
  skip_report: tuple[str, ...]
  rate: float
  share: float
  token_share: float
  epochs: float
  passes: int
  truncated_inputs: float | None
  truncated_targets: float | None
  lost_input_tokens: int | None
  lost_target_tokens: int | None
  lost_characters: dict[str, int] | None


@dataclasses.dataclass(frozen=True)
class FeedSummary:
  """What a run will see, from the stored lengths.

  Attributes:
    tasks: a line for each task.
    row_shapes: (input length, target length, share of the rows that have them).
    examples_per_batch: mean examples of a global batch.
    target_tokens_per_batch: mean target tokens of a global batch.
    input_density: share of input positions that are not padding.
    target_density: share of target positions that are not padding.
    density: the same of both sides together.
    steps_per_epoch: batches after which as many examples went by as the
      mixture's tasks hold.
  """

  tasks: tuple[TaskShare, ...]
  row_shapes: tuple[tuple[int, int, float], ...]
  examples_per_batch: float
  target_tokens_per_batch: float
  input_density: float
  target_density: float
  density: float
  steps_per_epoch: float


def summarize(
  mixture: index.PreparedMixture,
  stores: Sequence[token_store.TokenStore],
  shares: np.ndarray,
  lengths: np.ndarray,
  shapes: np.ndarray,
  batch_size: int,
  train_steps: int,
) -> FeedSummary:
  """Sums up a feed.

  Args:
    mixture: names and rates of the tasks.
    stores: the first pass of each task.
    shares: share of the examples of each task.
    lengths: int (n, 2), input and target lengths of a sample of what is fed.
    shapes: int (rows, 2), lengths of the rows which that sample fills.
    batch_size: rows of a batch.
    train_steps: length of the run, in batches.
  """
  per_batch = len(lengths) / len(shapes) * batch_size
  means = np.asarray([store.lengths.mean(axis=0) for store in stores])
  tokens = shares @ means  # of an example: input and target tokens
  kinds, counts = np.unique(shapes, axis=0, return_counts=True)
  filled, room = lengths.sum(axis=0), shapes.sum(axis=0)
  return FeedSummary(
    tasks=tuple(
      TaskShare(
        name=task.name,
        rate=task.rate,
        share=float(share),
        token_share=float(share * mean[1] / tokens[1]),
        epochs=float(train_steps * per_batch * share / len(store)),
        passes=len(task.passes),
        **_of_pipeline(store),
      )
      for task, store, share, mean in zip(
        mixture.tasks, stores, shares, means, strict=True
      )
    ),
    row_shapes=tuple(
      (*kind, count / len(shapes))
      for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True)
    ),
    examples_per_batch=per_batch,
    target_tokens_per_batch=float(tokens[1] * per_batch),
    input_density=float(filled[0] / room[0]),
    target_density=float(filled[1] / room[1]),
    density=float(filled.sum() / room.sum()),
    steps_per_epoch=sum(len(store) for store in stores) / per_batch,
  )


def _of_pipeline(store: token_store.TokenStore) -> dict:
  """Returns what a store's manifest tells of the rows it was made from."""
  told = store.manifest
  cut, lost = told.get("truncated"), told.get("lost_tokens")
  return {
    "rows": told.get("rows"),
    "examples": len(store),
    "skipped": told.get("skipped"),
    "skip_report": tuple(told.get("skip_report") or ()),
    "truncated_inputs": cut and cut["inputs"] / len(store),
    "truncated_targets": cut and cut["targets"] / len(store),
    "lost_input_tokens": lost and lost["inputs"],
    "lost_target_tokens": lost and lost["targets"],
    "lost_characters": told.get("lost_characters"),
  }

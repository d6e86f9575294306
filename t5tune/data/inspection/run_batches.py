"""The batches of a run, exactly as its training steps got them.

Made from what training keeps in its work directory: `data.json` names the token stores
and how batches are made of them, `metrics.jsonl` where the feed stood. Never imports
tensorflow.
"""

import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np

from t5tune import errors
from t5tune.data import feed, index, vocabularies


@dataclasses.dataclass(frozen=True)
class RowExample:
  """An example in a row of a batch.

  Attributes:
    task: its task.
    pass_index: which drawing of the templates it is from.
    record: where it stands in that pass's store.
    input_length: tokens of its inputs.
    target_length: tokens of its targets.
    inputs: text of the input tokens, as the model sees it.
    targets: text of the target tokens, as the model sees it.
  """

  task: str
  pass_index: int
  record: int
  input_length: int
  target_length: int
  inputs: str
  targets: str


@dataclasses.dataclass(frozen=True)
class RunBatch:
  """The batch of a training step.

  Attributes:
    mixture: name of the run's mixture.
    step: the step that its update made.
    logged: the last step that the run has logged.
    shape: input and target length of a row.
    rows: the examples of each row of the global batch.
    arrays: the arrays that the step received.
  """

  mixture: str
  step: int
  logged: int
  shape: tuple[int, int]
  rows: tuple[tuple[RowExample, ...], ...]
  arrays: dict[str, np.ndarray]

  def numbered(
    self, row: int | None = None
  ) -> list[tuple[int, tuple[RowExample, ...]]]:
    """Returns the rows with their numbers; only one of them unless `row` is None."""
    return [(r, own) for r, own in enumerate(self.rows) if row in (None, r)]


class RunBatches:
  """The batches of a run, by step: each as the start that made it read its data."""

  def __init__(self, workdir: str | os.PathLike):
    """Opens the stores that a run reads.

    Args:
      workdir: its work directory.

    Raises:
      UserError: it is no work directory, is of an older t5tune, or its stores are gone.
    """
    self._workdir = pathlib.Path(workdir)
    kept = _json(self._workdir, "data.json")
    try:
      self._starts = [
        (
          int(start["after_step"]),
          index.PreparedMixture.from_json(start["mixture"]),
          feed.FeedConfig(**start["feed"]),
        )
        for start in kept["starts"]
      ]
    except (KeyError, TypeError) as e:
      raise errors.UserError(
        f"{self._workdir / 'data.json'} is damaged or of another version of t5tune"
        f" ({type(e).__name__}: {e}). Start its training again, which writes it anew."
      ) from e
    self._feeds: dict[int, feed.Feed] = {}
    self._tokenizer = vocabularies.Tokenizer(self._workdir / "spiece.model")
    self._known = _known(self._workdir / "metrics.jsonl")
    planned = _json(self._workdir, "mixture.json")["train_steps"]
    self._logged = max((step for step, _ in self._known), default=0)
    self._last = max(planned, self._logged)

  def batch(self, step: int) -> RunBatch:
    """Returns the batch whose update made a step.

    Args:
      step: counts from 1.

    Raises:
      UserError: the run has no such step; or a store is damaged.
    """
    if not 1 <= step <= self._last:
      raise errors.UserError(
        f"--step={step}: this run has steps 1 to {self._last:,}. Step N is the batch"
        " whose update made step N."
      )
    data = self._feed(max(i for i, s in enumerate(self._starts) if s[0] < step))
    examples, shape, _ = data.take(data.state_at(step - 1, self._known))
    arrays = data.read(examples, shape)
    rows = [
      self._row(data, arrays, row, examples[examples["row"] == row])
      for row in range(data.config.batch_size)
    ]
    return RunBatch(data.mixture.name, step, self._logged, shape, tuple(rows), arrays)

  def _feed(self, number: int) -> feed.Feed:
    """Returns the feed of one of the run's starts, opened once."""
    if number not in self._feeds:
      _, mixture, config = self._starts[number]
      self._check_stores(mixture)
      self._feeds[number] = feed.Feed(mixture, config)
    return self._feeds[number]

  def _row(
    self, data, arrays, row: int, examples: np.ndarray
  ) -> tuple[RowExample, ...]:
    """Reads a row's text off the arrays themselves, segment by segment."""
    found = []
    for segment, example in enumerate(examples, start=1):
      inputs, targets = (
        arrays[f"{side}_tokens"][row][arrays[f"{part}_segment_ids"][row] == segment]
        for side, part in (("encoder_input", "encoder"), ("decoder_target", "decoder"))
      )
      found.append(
        RowExample(
          data.mixture.tasks[example["task"]].name,
          int(example["pass_index"]),
          int(example["record"]),
          len(inputs),
          len(targets),
          self._tokenizer.decode(inputs),
          self._tokenizer.decode(targets),
        )
      )
    return tuple(found)

  def _check_stores(self, mixture: index.PreparedMixture) -> None:
    passes = [store for task in mixture.tasks for store in task.passes]
    gone = [store for store in passes if not os.path.isdir(store)]
    if not gone:
      return
    where = "" if os.path.isabs(gone[0]) else " Or run where training was started."
    more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
    raise errors.UserError(
      f"--run={self._workdir}: the token store {gone[0]}{more} that it read is no"
      " longer there. Rebuild it with the --data_dir and --store_dir of the run: python"
      f" -m t5tune.prepare --gin_file={self._workdir / 'config.gin'}.{where}"
    )


def _json(workdir: pathlib.Path, name: str) -> dict[str, Any]:
  """Reads a JSON file of a work directory."""
  file = workdir / name
  if not file.is_file():
    if not workdir.is_dir():
      raise errors.UserError(
        f"--run={workdir} is not a directory. Name the --workdir of a training run."
      )
    what = "is a run of an older t5tune" if (workdir / "run.json").is_file() else ""
    raise errors.UserError(
      f"--run={workdir} has no {name}: it {what or 'is not the --workdir of a run'}."
      + (
        " Start its training again, which writes it."
        if what
        else " Name the folder that training wrote to."
      )
    )
  try:
    return dict(json.loads(file.read_text(encoding="utf-8")))
  except (OSError, ValueError, TypeError) as e:
    raise errors.UserError(
      f"{file} cannot be read ({e}). Start its training again, which writes it anew."
    ) from e


def _known(file: pathlib.Path) -> list[tuple[int, dict[str, int]]]:
  """Returns (step, state of the feed after its batch) of all training lines."""
  known = []
  lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
  for line in lines:
    try:
      record = json.loads(line)
    except ValueError:  # the line a kill cut short
      break
    if record.get("kind") == "train" and "feed" in record:
      known.append((record["step"], record["feed"]))
  return known

"""Pipelines: a task's rows run through its SeqIO steps into a token store.

rows -> template -> tokens -> token store
"""

import contextlib
import dataclasses
import functools
import itertools
import os
import pathlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from t5tune import errors
from t5tune.data import (
  definitions,
  fingerprint,
  index,
  repeatability,
  store_names,
  token_store,
  vocabularies,
)

_TOKENS = ("inputs", "targets")
# What is counted of a training example beside its tokens, with its type.
_COUNTED = {
  **{f"{name}_pretokenized": "string" for name in _TOKENS},
  **{"content_key": "int64", "cut_tokens": "int32"},
}
_BATCH = 256  # examples that are taken from a pipeline together


@dataclasses.dataclass(frozen=True)
class Job:
  """A store to be written.

  Attributes:
    task: name of the task.
    split: the split to read.
    pass_index: which drawing of the templates; None for evaluation.
    template: the template that evaluation uses; None for the first.
    path: the store's directory.
    rows: rows of the split, where known.
    stamps: (path, size, time, number) of the files that are read.
  """

  task: str
  split: str
  pass_index: int | None
  template: str | None
  path: str
  rows: int | None
  stamps: tuple[tuple[str, int, int, int], ...]

  @property
  def label(self) -> str:
    """What is written, in words."""
    which = self.template if self.pass_index is None else f"pass {self.pass_index}"
    return f"{self.task}{f', {which}' if which else ''} ({self.split})"


class Example(NamedTuple):
  """An example as a pipeline gives it.

  Attributes:
    inputs: int32 tokens.
    targets: int32 tokens.
    row: its other features, as JSON values.
    key: int64, a hash of what it asks.
  """

  inputs: np.ndarray
  targets: np.ndarray
  row: dict[str, Any]
  key: int


def job(
  task: Any,
  split: str,
  request: index.Request,
  store_dir: pathlib.Path,
  pass_index: int | None = None,
  template: str | None = None,
) -> Job:
  """Returns what it takes to write a store.

  Args:
    task: a `seqio.Task`.
    split: the split to read.
    request: gives lengths, vocabulary and seed.
    store_dir: folder of all stores.
    pass_index: which drawing of the templates; None for evaluation.
    template: the template that evaluation uses; None for the first.

  Raises:
    UserError: the split cannot be read.
  """
  stamps = stamped(store_names.data_files(task, split))  # before their content counts
  name = store_names.store_fingerprint(task, split, request, pass_index, template)
  path = store_dir / "stores" / task.name / f"{split}-{name}"
  rows = task.num_input_examples(split)
  return Job(task.name, split, pass_index, template, str(path), rows, stamps)


def stamped(files: Iterable[str | os.PathLike]) -> tuple:
  """Returns what changes when a file is written or replaced, for each of some files."""
  stats = [(os.path.abspath(f), os.stat(f)) for f in files]
  return tuple((f, s.st_size, s.st_mtime_ns, s.st_ino) for f, s in stats)


def check_unchanged(stamps: Iterable[tuple[str, int, int, int]]) -> None:
  """Raises a UserError for a file that was written or replaced since it was stamped."""
  for stamp in stamps:
    try:
      same = stamped([stamp[0]]) == (tuple(stamp),)
    except OSError:
      same = False
    if not same:
      raise errors.UserError(
        f"{stamp[0]} was changed while its tokens were written. Start again."
      )


def write(
  task: Any, wanted: Job, request: index.Request, advance: Callable[[], None]
) -> None:
  """Writes a store, unless another process has just done so.

  Args:
    task: the `seqio.Task`.
    wanted: what to write.
    request: gives lengths, vocabulary and seed.
    advance: called at each example.

  Raises:
    UserError: a row, field or template is wrong, examples cannot be built twice alike,
      or the store cannot be written.
  """
  task = definitions.with_vocabulary(task, request.vocabulary)
  with token_store.writing(wanted.path, keep_rows=wanted.pass_index is None) as writer:
    stats = _Stats(task, request)
    first = []
    for example in _examples(task, wanted, request):
      writer.append(*example)
      stats.add(example)
      if len(first) < repeatability.EXAMPLES:
        first.append(example)
      advance()
    if not first:
      raise errors.UserError(
        f"task {task.name!r}, split {wanted.split!r}: its pipeline gave no example."
      )
    # Once a task: its other stores come of the same steps.
    if wanted.pass_index == 0 or not request.train:
      again = itertools.islice(_examples(task, wanted, request), len(first))
      repeatability.check(
        task,
        wanted.split,
        request,
        functools.partial(_drawing, task, wanted, request),
        [example._asdict() for example in first],
        [example._asdict() for example in again],
      )
    check_unchanged(wanted.stamps)
    writer.manifest = {
      "task": wanted.task,
      "split": wanted.split,
      "pass": wanted.pass_index,
      "template": wanted.template,
      "lengths": request.lengths,
      "vocabulary_sha256": fingerprint.file_digest(request.vocabulary),
      "seed": request.seed,
      "versions": fingerprint.versions(),
      "rows": wanted.rows,
      **_skipped(task, wanted.split),
      **stats.to_json(),
    }


def _skipped(task: Any, split: str) -> dict[str, Any]:
  """Returns how many bad rows were left out, and what is wrong with the first."""
  if store_names.cache_dir(task) is not None or not hasattr(task.source, "skipped"):
    return {"skipped": None, "skip_report": []}
  source = task.source
  return {"skipped": source.skipped(split), "skip_report": source.skip_report(split)}


class _Stats:
  """What the pipeline lost of an example's text, counted while it is written."""

  def __init__(self, task: Any, request: index.Request):
    self._features, self._lengths = task.output_features, request.lengths
    self._tokenizer = vocabularies.Tokenizer(request.vocabulary)
    self._truncated = dict.fromkeys(request.lengths, 0)
    self._lost = dict.fromkeys(request.lengths, 0)
    self._characters: Counter[str] = Counter()
    self._known = True

  def add(self, example: Example) -> None:
    for name, tokens in (("inputs", example.inputs), ("targets", example.targets)):
      text = example.row[f"{name}_pretokenized"]
      if not isinstance(text, str):
        self._known = False
        continue
      escaped = definitions.escapes(self._features[name])
      lost = 0
      if len(tokens) == self._lengths[name]:  # else nothing was cut off
        full = self._tokenizer.encode(text, escaped)
        # A pipeline may do more to a text than tokenize it: then nobody knows. Compared
        # as text, since two tokenizers may settle a tie between pieces differently.
        whole, kept = map(self._tokenizer.decode, (full, tokens[:-1]))
        self._known &= whole.startswith(kept)
        lost = len(full) + self._features[name].add_eos - len(tokens)
      if name == "inputs":
        lost += example.row.get("cut_tokens", 0)
      self._truncated[name] += lost > 0
      self._lost[name] += max(lost, 0)
      if not escaped:
        self._characters += self._tokenizer.lost_characters(text)

  def to_json(self) -> dict[str, Any]:
    return {
      "truncated": self._truncated if self._known else None,
      "lost_tokens": self._lost if self._known else None,
      "lost_characters": dict(self._characters.most_common()) if self._known else None,
      "escape": {k: definitions.escapes(f) for k, f in self._features.items()},
    }


def _drawing(task, wanted: Job, request: index.Request):
  """Returns the context in which a job's datasets are built."""
  from t5tune.data import drawing

  if wanted.pass_index is None:
    return drawing.evaluation(wanted.template)
  return drawing.training(
    wanted.pass_index, request.seed, store_names.held_out(task, request)
  )


def _examples(task, wanted: Job, request: index.Request) -> Iterator[Example]:
  """Yields a task's examples, in row order."""
  with _told(task, wanted.split):
    dataset = _dataset(task, wanted, request)
    whole = wanted.pass_index is None  # evaluation keeps all of a row
    for example in dataset.as_numpy_iterator() if whole else _without_rest(dataset):
      row = {k: _plain(v) for k, v in example.items() if k not in request.lengths}
      key = row.get("content_key")
      for name, feature in task.output_features.items():
        if f"{name}_pretokenized" not in row:  # of a pipeline that drops its text
          text = feature.vocabulary.decode(example[name].tolist())
          row[f"{name}_pretokenized"] = text
      if key is None:
        key = _text_key(row["inputs_pretokenized"])
      yield Example(example["inputs"], example["targets"], row, key)


def _without_rest(dataset) -> Iterator[dict[str, Any]]:
  """Yields tokens and what is counted of them, without a row's other features.

  Taken in batches: one at a time, examples take three times as long.
  """
  import tensorflow as tf

  spec = dataset.element_spec
  kept = [name for name in _TOKENS if name in spec]
  kept += [
    name
    for name, dtype in _COUNTED.items()
    if name in spec and spec[name].shape.rank == 0 and spec[name].dtype == dtype
  ]
  chosen = dataset.map(lambda row: {name: row[name] for name in kept})
  for batch in chosen.ragged_batch(_BATCH):
    columns = {}
    for name, column in batch.items():
      if isinstance(column, tf.RaggedTensor):
        cuts = column.row_splits.numpy()[1:-1]
        columns[name] = np.split(column.flat_values.numpy(), cuts)
      else:
        columns[name] = column.numpy()
    for values in zip(*columns.values(), strict=True):
      yield dict(zip(columns, values, strict=True))


def _text_key(text: Any) -> int:
  from t5tune.data import rows

  return rows.row_key({"inputs": text})


def _dataset(task, wanted: Job, request: index.Request):
  """Returns a task's dataset of examples; raises a UserError if it never ends."""
  import tensorflow as tf

  with _drawing(task, wanted, request):
    dataset = task.get_dataset(
      sequence_length=request.lengths,
      split=wanted.split,
      shuffle=False,
      seed=request.seed,
      use_cached=store_names.cache_dir(task) is not None,
      try_in_mem_cache=False,  # it is read once
    )
  endless = dataset.cardinality() == tf.data.INFINITE_CARDINALITY
  if not hasattr(task.source, "identity") and store_names.cache_dir(task) is None:
    # A step such as filter hides that the source itself has no end.
    own = task.source.get_dataset(split=wanted.split, shuffle=False)
    endless |= own.cardinality() == tf.data.INFINITE_CARDINALITY
  if endless:
    raise errors.UserError(
      f"task {task.name!r}, split {wanted.split!r}: its source never ends, so it has no"
      " epoch and cannot be kept. End it, for instance with .take(n) in its dataset"
      " function, and give the source num_input_examples."
    )
  options = tf.data.Options()
  # Tuning takes a third of the work where every core has a process of its own.
  options.autotune.enabled = False
  options.threading.max_intra_op_parallelism = 1
  return dataset.with_options(options)


@contextlib.contextmanager
def _told(task, split: str) -> Iterator[None]:
  """Turns what a pipeline raises into a UserError."""
  try:
    yield
  except errors.UserError:
    raise
  except Exception as e:
    # tensorflow's messages hold the graph's own traceback: keep the cause.
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    cause = lines[0] if lines else ""
    if cause == "in user code:":  # the error of a function that tensorflow traced
      places = re.findall(r'File "(.*?)", line (\d+)', str(e))
      own = [(f, line) for f, line in places if not fingerprint.is_library(f)]
      file, line = (own or places or [("?", "?")])[-1]
      cause = f"{lines[-1].removeprefix(f'{type(e).__name__}: ')} ({file}:{line})"
    raise errors.UserError(
      f"task {task.name!r}, split {split!r}: its pipeline failed:"
      f" {type(e).__name__}: {cause}"
    ) from e


def _plain(value: Any) -> Any:
  """Turns a numpy feature into a JSON value."""
  if isinstance(value, bytes):
    return value.decode("utf-8", "replace")
  if isinstance(value, np.ndarray):
    return [_plain(v) for v in value.tolist()] if value.ndim else _plain(value.item())
  if isinstance(value, np.generic):
    return _plain(value.item())
  return value

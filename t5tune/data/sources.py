"""Sources: where a task's rows come from, the start of the data's direction.

`RowSource` reads JSON Lines files or a prepared TFDS dataset, `GeneratedSource` a
Python function. Both are ordinary SeqIO sources; both give every row a `row_key`, a
hash of its content, from which all draws about the row are made. What they share, the
checks above all, is in `checked_source.py`.
"""

import hashlib
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import seqio
import tensorflow_datasets as tfds

from t5tune.data import prepared, tfds_builders
from t5tune.data.checked_source import CheckedSource, stamp
from t5tune.data.rows import Kind, Schema, read_json_lines
from t5tune.errors import UserError, did_you_mean

_SPLIT_ORDER = ("train", "validation", "test")

_data_dir: pathlib.Path | None = None
_data_cap: dict[str, int] | None = None


def set_data_dir(path: str | os.PathLike | None) -> None:
  """Sets the folder in which sources look for `<dataset>/<split>.jsonl`.

  Args:
    path: the folder; None goes back to the environment variable T5TUNE_DATA_DIR.
  """
  global _data_dir
  _data_dir = None if path is None else pathlib.Path(path).expanduser()


def data_dir() -> pathlib.Path | None:
  """Returns the folder set by `set_data_dir`, else T5TUNE_DATA_DIR, else None."""
  if _data_dir is not None:
    return _data_dir
  path = os.environ.get("T5TUNE_DATA_DIR")
  return pathlib.Path(path).expanduser() if path else None


def set_data_cap(cap: int | Mapping[str, int] | None) -> None:
  """Caps the training rows of the tasks that are registered now.

  A capped task has that many rows, always the same ones; what is called a cap on a
  task's size in a mixing rate leaves the rows alone and only weighs the task less.

  Args:
    cap: a number for every task, a number by task name, or None for no cap.

  Raises:
    UserError: no such task, a number below 1, or two tasks that share a source of
      which only one is named.
  """
  global _data_cap
  names = seqio.TaskRegistry.names()
  by_name = dict.fromkeys(names, cap) if isinstance(cap, int) else dict(cap or {})
  for name, number in by_name.items():
    if name not in names:
      raise UserError(
        f"DATA_CAP: no task {name!r} is registered.{did_you_mean(name, names)} Give a"
        " number for all tasks, or one for each of some tasks."
      )
    if number < 1:
      raise UserError(f"DATA_CAP: {number} for {name!r}: it must be at least 1.")
  users: dict[int, str] = {}
  for name in names:
    source = seqio.TaskRegistry.get(name).source
    if not isinstance(source, CheckedSource):
      continue
    other = users.setdefault(id(source), name)
    if by_name.get(other) != by_name.get(name):
      raise UserError(
        f"DATA_CAP: tasks {other!r} and {name!r} read one source object, so they are"
        " capped together. Name both, or give each a source of its own."
      )
    source.data_cap = by_name.get(name)
  _data_cap = None if cap is None else by_name


def check_data_cap(tasks: Iterable[seqio.Task]) -> None:
  """Checks that the tasks of a run can be capped as `set_data_cap` was told.

  Args:
    tasks: the tasks.

  Raises:
    UserError: the rows of a task that is to be capped come from a source that is not
      of t5tune, or from SeqIO's offline cache.
  """
  for task in tasks:
    if task.name not in (_data_cap or {}):
      continue
    if task.supports_caching and task.cache_dir:
      raise UserError(
        f"DATA_CAP: the rows of {task.name!r} were capped, or not, when its offline"
        f" cache {task.cache_dir} was made. Leave this folder out of"
        " run.Run.cache_dirs, or the task out of DATA_CAP."
      )
    if not isinstance(task.source, CheckedSource):
      raise UserError(
        f"DATA_CAP: task {task.name!r} reads a {type(task.source).__name__}, which"
        " t5tune cannot cap. Name the tasks to cap, without this one, or give it a"
        " t5tune.data.sources.RowSource."
      )


class RowSource(CheckedSource):
  """Rows of `<data_dir>/<dataset>/<split>.jsonl`, else of a prepared TFDS dataset."""

  def __init__(
    self,
    dataset: str,
    fields: Mapping[str, Kind],
    optional: Mapping[str, Kind] | None = None,
    check: Callable[[Mapping[str, Any]], None] | None = None,
    tfds_name: str | None = None,
    leave_out: Mapping[str, Sequence[str]] | None = None,
    on_bad_row: str = "stop",
  ):
    """Declares a source; nothing is looked up before it is asked for.

    Args:
      dataset: folder under the data directory, such as `samsum` or `cot/aqua`.
      fields: kind (`str`, `int` or `list[str]`) of each field every row must have;
        texts and lists must not be empty.
      optional: kind of each field that a row may lack.
      check: raises ValueError, naming field and fix, on a row that is wrong in
        another way.
      tfds_name: `builder`, `builder/config` or either with `:version`, used where
        there are no JSON Lines files; by default that of `tfds_builders.BUILDERS`, or
        the same as `dataset`.
      leave_out: field -> values; rows with one of them are known to be broken in the
        published data and are not read.
      on_bad_row: 'stop' at a row that cannot be used, or 'skip' and count it.
    """
    super().__init__(Schema(dict(fields), dict(optional or {}), check), on_bad_row)
    self._leave_out = {k: list(v) for k, v in (leave_out or {}).items()}
    self._dataset = dataset
    self._tfds_name = tfds_name or tfds_builders.BUILDERS.get(dataset, dataset)

  def __str__(self) -> str:
    return f"RowSource({self._dataset})"

  def _json_files(self) -> dict[str, pathlib.Path]:
    """Returns the JSON Lines file of each split, in the usual order of splits."""
    root = data_dir()
    folder = root / self._dataset if root else None
    if folder is None or not folder.is_dir():
      return {}
    paths = {path.name.removesuffix(".jsonl"): path for path in folder.glob("*.jsonl")}
    rank = {split: i for i, split in enumerate(_SPLIT_ORDER)}
    return {s: paths[s] for s in sorted(paths, key=lambda s: (rank.get(s, 9), s))}

  def _located(self) -> dict[str, pathlib.Path] | tfds.core.DatasetBuilder:
    """Returns the files by split or the TFDS dataset, or raises a UserError."""
    located = self._json_files() or prepared.find(self._tfds_name, data_dir())
    if located is not None:
      return located
    root, name = data_dir(), self._dataset
    if root is None:
      where = "no data directory is set (--data_dir or T5TUNE_DATA_DIR)"
      near = ""
    else:
      where = f"there is no {root / name}/<split>.jsonl"
      known = {str(p.parent.relative_to(root)) for p in root.glob("**/*.jsonl")}
      near = did_you_mean(name, sorted(known))
    if name in tfds_builders.BUILDERS:
      prepare = f"run `python -m t5tune.data.tfds_builders {name} --data_dir=DIR`"
    else:
      prepare = f"prepare TFDS's {self._tfds_name!r} there"
    raise UserError(
      f"Dataset {name!r} not found: {where}, and no prepared TFDS dataset"
      f" {self._tfds_name!r}.{near} Either put JSON Lines files such as"
      f" DIR/{name}/train.jsonl, one object a line like"
      f" {self.schema.sample}, or {prepare}."
    )

  @property
  def splits(self) -> Sequence[str]:
    """The splits there are now; raises a UserError where there is no data."""
    located = self._located()
    return tuple(located if isinstance(located, dict) else located.info.splits)

  def _require(self, split: str):
    """Returns what `_located` returns after making sure that it has a split."""
    located = self._located()
    known = list(located if isinstance(located, dict) else located.info.splits)
    if split not in known:
      raise UserError(
        f"Dataset {self._dataset!r} has no split {split!r}."
        f"{did_you_mean(split, known)} It has {', '.join(known)}; a split is a file"
        f" <data_dir>/{self._dataset}/{split}.jsonl."
      )
    return located

  def files(self, split: str) -> list[pathlib.Path]:
    located = self._require(split)
    if isinstance(located, dict):
      return [located[split]]
    return [pathlib.Path(path) for path in located.info.splits[split].filepaths]

  def _version(self, split: str) -> Any:
    return [stamp(path) for path in self.files(split)]

  def _identity(self, split: str) -> dict[str, Any]:
    located = self._require(split)
    described = {"fields": sorted(self.schema.kinds), "leave_out": self._leave_out}
    if isinstance(located, dict):
      described |= {"kind": "jsonl", "dataset": self._dataset}
    else:
      described |= {"kind": "tfds", "dataset": located.info.full_name}
    described["files"] = [
      {"name": path.name, **self._file_identity(path)} for path in self.files(split)
    ]
    return described

  def _raw_rows(self, split: str) -> Iterator[tuple[str, Any]]:
    located = self._require(split)
    if isinstance(located, dict):
      found = read_json_lines(located[split])
    else:
      found = prepared.rows(located, split)
    return ((where, raw) for where, raw in found if not self._is_left_out(raw))

  def _is_left_out(self, raw: Any) -> bool:
    return isinstance(raw, Mapping) and any(
      raw.get(name) in values for name, values in self._leave_out.items()
    )


class GeneratedSource(CheckedSource):
  """Rows made by a Python function."""

  def __init__(
    self,
    generate: Callable[[str], Iterable[Mapping[str, Any]]],
    fields: Mapping[str, Kind],
    splits: Sequence[str],
    optional: Mapping[str, Kind] | None = None,
    check: Callable[[Mapping[str, Any]], None] | None = None,
    on_bad_row: str = "stop",
  ):
    """Declares a source.

    Args:
      generate: gives the rows of a split, the same ones each time it is called.
      fields: as for `RowSource`.
      splits: the splits that `generate` knows.
      optional: as for `RowSource`.
      check: as for `RowSource`.
      on_bad_row: as for `RowSource`.
    """
    super().__init__(Schema(dict(fields), dict(optional or {}), check), on_bad_row)
    self._generate = generate
    self._splits = tuple(splits)

  def __str__(self) -> str:
    return f"GeneratedSource({self._generate.__name__})"

  def files(self, split: str) -> list[pathlib.Path]:
    return []

  def _version(self, split: str) -> Any:
    return split

  def _identity(self, split: str) -> dict[str, Any]:
    digest = hashlib.sha256()
    for row in self.rows(split):
      digest.update(row["row_key"].to_bytes(8))
    return {
      "kind": "generated",
      "function": f"{self._generate.__module__}.{self._generate.__qualname__}",
      "fields": sorted(self.schema.kinds),
      "sha256": digest.hexdigest(),
    }

  def _raw_rows(self, split: str) -> Iterator[tuple[str, Any]]:
    if split not in self._splits:
      raise UserError(
        f"{self} has no split {split!r}.{did_you_mean(split, self._splits)} It has"
        f" {', '.join(self._splits)}."
      )
    for i, row in enumerate(self._generate(split)):
      yield f"{self} split {split!r}, row {i}", row

"""Sources: where a task's rows come from, the start of the data's direction.

`RowSource` reads JSON Lines files or a prepared TFDS dataset, `GeneratedSource` a
Python function. Both are ordinary SeqIO sources; both give every row a `row_key`, a
hash of its content, from which all draws about the row are made.

An exception raised inside a tf.data generator reaches the caller as a tensorflow
error. So `get_dataset` and `num_input_examples` first read all rows of the split in
plain Python: a bad row raises a `UserError` there, before any dataset exists. The
outcome is kept until the file changes.
"""

import abc
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from t5tune.data import prepared, row_dataset, tfds_builders
from t5tune.data.rows import Kind, Schema, read_json_lines
from t5tune.errors import UserError, did_you_mean

_SPLIT_ORDER = ("train", "validation", "test")

_data_dir: pathlib.Path | None = None


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


class _Source(seqio.DataSource):
  """What the two sources share: checked rows, row keys and the tf.data view."""

  # Field -> values of the rows that are left out; see `RowSource`.
  _leave_out: Mapping[str, Sequence[str]] = {}

  def __init__(self, schema: Schema):
    self.schema = schema
    self._scanned: dict[str, tuple[Any, int]] = {}
    # SeqIO's own `splits` is fixed at construction; the property below is not.
    super().__init__(splits=(), caching_permitted=True)

  @abc.abstractmethod
  def _raw_rows(self, split: str) -> Iterator[tuple[str, Any]]:
    """Yields (where the row stands, the row as it was found)."""

  @abc.abstractmethod
  def _version(self, split: str) -> Any:
    """Returns a value that changes when a split's rows may have changed."""

  @abc.abstractmethod
  def files(self, split: str) -> list[pathlib.Path]:
    """Returns the files that a split's rows are read from."""

  @abc.abstractmethod
  def identity(self, split: str) -> dict[str, Any]:
    """Returns a JSON-able description that changes when a split's rows do."""

  def rows(self, split: str) -> Iterator[dict[str, Any]]:
    """Yields a split's checked rows in order, as plain Python values.

    Args:
      split: the split's name.

    Yields:
      A dict of the declared fields (str, int or list of str; an optional field that
      a row lacks is "", 0 or []) and `row_key` (int).

    Raises:
      UserError: the first row at fault, with its file, line and field.
    """
    for where, raw in self._raw_rows(split):
      if not self._is_left_out(raw):
        yield self.schema.row(where, raw)

  def _is_left_out(self, raw: Any) -> bool:
    return isinstance(raw, Mapping) and any(
      raw.get(name) in values for name, values in self._leave_out.items()
    )

  def validate(self, split: str) -> int:
    """Reads all rows of a split, unless this was done since the file changed.

    Args:
      split: the split's name.

    Returns:
      The number of rows.

    Raises:
      UserError: as `rows`; or the split is empty.
    """
    version = self._version(split)
    if self._scanned.get(split, (None, 0))[0] != version:
      count = sum(1 for _ in self.rows(split))
      if not count:
        raise UserError(f"{self._describe(split)} holds no rows: give it some.")
      self._scanned[split] = (version, count)
    return self._scanned[split][1]

  def _describe(self, split: str) -> str:
    return ", ".join(map(str, self.files(split))) or f"{self} split {split!r}"

  @property
  def supports_arbitrary_sharding(self) -> bool:
    return False

  def list_shards(self, split: str) -> Sequence[str]:
    return [split]

  def num_input_examples(self, split: str) -> int:
    return self.validate(split)

  def get_dataset(
    self,
    split: str = "train",
    shuffle: bool = True,
    seed: int | None = None,
    shard_info: seqio.ShardInfo | None = None,
    **unused,
  ) -> tf.data.Dataset:
    """Returns a split as a tf.data dataset, in the order of `rows`.

    Args:
      split: the split's name.
      shuffle: ignored; the task shuffles in its buffer.
      seed: ignored.
      shard_info: at most one shard; the task shards by example.
      **unused: further arguments of SeqIO's sources.

    Returns:
      Dataset of the declared fields and `row_key`.

    Raises:
      UserError: as `validate`.
    """
    if shard_info is not None and shard_info.num_shards > 1:
      raise ValueError("A split is one shard: shard the examples, not the source.")
    count = self.validate(split)
    kinds = {**self.schema.kinds, "row_key": int}
    return row_dataset.from_rows(lambda: self.rows(split), kinds, count)


class RowSource(_Source):
  """Rows of `<data_dir>/<dataset>/<split>.jsonl`, else of a prepared TFDS dataset."""

  def __init__(
    self,
    dataset: str,
    fields: Mapping[str, Kind],
    optional: Mapping[str, Kind] | None = None,
    check: Callable[[Mapping[str, Any]], None] | None = None,
    tfds_name: str | None = None,
    leave_out: Mapping[str, Sequence[str]] | None = None,
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
    """
    self._leave_out = {k: list(v) for k, v in (leave_out or {}).items()}
    super().__init__(Schema(dict(fields), dict(optional or {}), check))
    self._dataset = dataset
    self._tfds_name = tfds_name or tfds_builders.BUILDERS.get(dataset, dataset)
    self._digests: dict[tuple, str] = {}

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
    return [_stamp(path) for path in self.files(split)]

  def identity(self, split: str) -> dict[str, Any]:
    """Returns what a split's rows are, independent of where the folder lies.

    Args:
      split: the split's name.

    Returns:
      For JSON Lines, path under the data directory, size and sha256 of the file;
      for TFDS, the dataset's name, version and file hashes.
    """
    located = self._require(split)
    described = {"fields": sorted(self.schema.kinds), "leave_out": self._leave_out}
    if isinstance(located, dict):
      described |= {"kind": "jsonl", "dataset": self._dataset}
    else:
      described |= {"kind": "tfds", "dataset": located.info.full_name}
    described["files"] = [
      {"name": p.name, "size": p.stat().st_size, "sha256": self._sha256(p)}
      for p in self.files(split)
    ]
    return described

  def _sha256(self, path: pathlib.Path) -> str:
    stamp = _stamp(path)
    if stamp not in self._digests:
      with path.open("rb") as file:
        self._digests[stamp] = hashlib.file_digest(file, "sha256").hexdigest()
    return self._digests[stamp]

  def _raw_rows(self, split: str) -> Iterator[tuple[str, Any]]:
    located = self._require(split)
    if isinstance(located, dict):
      yield from read_json_lines(located[split])
    else:
      yield from prepared.rows(located, split)


class GeneratedSource(_Source):
  """Rows made by a Python function."""

  def __init__(
    self,
    generate: Callable[[str], Iterable[Mapping[str, Any]]],
    fields: Mapping[str, Kind],
    splits: Sequence[str],
    optional: Mapping[str, Kind] | None = None,
    check: Callable[[Mapping[str, Any]], None] | None = None,
  ):
    """Declares a source.

    Args:
      generate: gives the rows of a split, the same ones each time it is called.
      fields: as for `RowSource`.
      splits: the splits that `generate` knows.
      optional: as for `RowSource`.
      check: as for `RowSource`.
    """
    super().__init__(Schema(dict(fields), dict(optional or {}), check))
    self._generate = generate
    self._splits = tuple(splits)

  def __str__(self) -> str:
    return f"GeneratedSource({self._generate.__name__})"

  def files(self, split: str) -> list[pathlib.Path]:
    return []

  def _version(self, split: str) -> Any:
    return split

  def identity(self, split: str) -> dict[str, Any]:
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


def _stamp(path: pathlib.Path) -> tuple[str, int, int]:
  stat = path.stat()
  return str(path), stat.st_size, stat.st_mtime_ns

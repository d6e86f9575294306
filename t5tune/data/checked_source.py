"""The base of our sources: rows checked, keyed, counted and capped.

Stands between what reads raw rows (`sources.py`, `file_source.py`) and SeqIO.

An exception raised inside a tf.data generator reaches the caller as a tensorflow
error. So `get_dataset` and `num_input_examples` first read all rows of the split in
plain Python: a bad row raises a `UserError` there, before any dataset exists. The
outcome is kept until the file changes.
"""

import abc
import array
import dataclasses
import hashlib
import itertools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from t5tune.data import fingerprint, row_dataset
from t5tune.data.rows import BadRow, Schema
from t5tune.errors import UserError

ON_BAD_ROW = ("stop", "skip")
_REPORTED = 5  # messages kept of a split's bad rows


@dataclasses.dataclass(frozen=True)
class _Scan:
  """What reading a whole split has shown.

  Attributes:
    count: rows that the source gives.
    skipped: bad rows.
    report: messages of the first of these.
    kept: whether each good row is given, where the cap leaves some out.
  """

  count: int
  skipped: int
  report: tuple[str, ...]
  kept: np.ndarray | None


class CheckedSource(seqio.DataSource):
  """A source of checked rows; a class of it reads the raw ones.

  Attributes:
    schema: the fields of a row.
    data_cap: most rows of the split `train`, or None; `sources.set_data_cap` sets it.
  """

  # Added to the message of a bad row that stops the run.
  how_to_skip = ""

  def __init__(self, schema: Schema, on_bad_row: str = "stop"):
    if on_bad_row not in ON_BAD_ROW:
      raise UserError(f"on_bad_row = {on_bad_row!r}: give 'stop' or 'skip'.")
    self.schema = schema
    self.data_cap: int | None = None
    self._on_bad_row = on_bad_row
    self._scanned: dict[str, tuple[Any, _Scan]] = {}
    self._digests: dict[tuple, str] = {}
    # SeqIO's own `splits` is fixed at construction; those of our sources are not.
    super().__init__(splits=(), caching_permitted=True)

  @abc.abstractmethod
  def _raw_rows(self, split: str) -> Iterator[tuple[str, Any]]:
    """Yields (where the row stands, the row as it was found, or a `BadRow`)."""

  @abc.abstractmethod
  def _version(self, split: str) -> Any:
    """Returns a value that changes when a split's rows may have changed."""

  @abc.abstractmethod
  def _identity(self, split: str) -> dict[str, Any]:
    """Returns `identity` but for what this class adds."""

  @abc.abstractmethod
  def files(self, split: str) -> list[pathlib.Path]:
    """Returns the files that a split's rows are read from."""

  def rows(self, split: str) -> Iterator[dict[str, Any]]:
    """Yields a split's checked rows in order, as plain Python values.

    Args:
      split: the split's name.

    Yields:
      A dict of the declared fields (str, int or list of str; an optional field that
      a row lacks is "", 0 or []) and `row_key` (int). Under a data cap, the rows of
      `train` with the lowest keys: a random choice that more rows hardly change.

    Raises:
      UserError: the first row at fault, with its file, line and field, where the
        source stops at bad rows.
    """
    kept = self._scan(split).kept if self._cap(split) else None
    rows = self._good_rows(split, self._refuse)
    yield from rows if kept is None else itertools.compress(rows, kept)

  def _good_rows(
    self, split: str, bad: Callable[[BadRow], None]
  ) -> Iterator[dict[str, Any]]:
    for where, raw in self._raw_rows(split):
      try:
        row = self.schema.row(where, raw)
      except BadRow as error:
        bad(error)
        continue
      yield row

  def _refuse(self, error: BadRow) -> None:
    if self._on_bad_row == "stop":
      raise BadRow(f"{error}{self.how_to_skip}") from error

  def _cap(self, split: str) -> int | None:
    return self.data_cap if split == "train" else None

  def _scan(self, split: str) -> _Scan:
    """Reads all rows of a split, unless this was done since the file changed."""
    version = self._version(split), self._cap(split)
    if self._scanned.get(split, (None, None))[0] != version:
      self._scanned[split] = version, self._read_through(split)
    return self._scanned[split][1]

  def _read_through(self, split: str) -> _Scan:
    report, skipped, count = [], 0, 0
    cap, keys = self._cap(split), array.array("q")

    def bad(error: BadRow) -> None:
      nonlocal skipped
      self._refuse(error)
      skipped += 1
      if skipped <= _REPORTED:
        report.append(str(error))

    for row in self._good_rows(split, bad):
      count += 1
      if cap is not None:
        keys.append(row["row_key"])
    if not count:
      raise UserError(self._no_rows(split, report, skipped))
    if cap is None or cap >= count:
      return _Scan(count, skipped, tuple(report), None)
    kept = np.zeros(count, bool)
    # Stable: of rows with equal keys, the first ones.
    kept[np.argsort(np.asarray(keys), kind="stable")[:cap]] = True
    return _Scan(cap, skipped, tuple(report), kept)

  def _no_rows(self, split: str, report: Sequence[str], skipped: int) -> str:
    """Returns what to say of a split without a good row."""
    if skipped:
      return (
        f"{self._describe(split)}: none of its rows can be used ({skipped:,} bad). The"
        f" first: {report[0]}"
      )
    return f"{self._describe(split)} holds no rows: give it some."

  def _describe(self, split: str) -> str:
    return ", ".join(map(str, self.files(split))) or f"{self} split {split!r}"

  def validate(self, split: str) -> int:
    """Reads all rows of a split, unless this was done since the file changed.

    Args:
      split: the split's name.

    Returns:
      The number of rows that the source gives.

    Raises:
      UserError: as `rows`; or the split has no row, or none that can be used.
    """
    return self._scan(split).count

  def skipped(self, split: str) -> int:
    """Returns how many bad rows of a split are left out; raises as `validate`."""
    return self._scan(split).skipped

  def __fingerprint__(self) -> str:
    """Returns what a fingerprint knows of a source that a step holds: its name.

    Its rows are known by `identity`, and where they lie makes no difference.
    """
    return str(self)

  def skip_report(self, split: str) -> list[str]:
    """Returns what is wrong with the first of the bad rows; raises as `validate`."""
    return list(self._scan(split).report)

  def identity(self, split: str) -> dict[str, Any]:
    """Returns what a split's rows are, independent of where the files lie.

    Args:
      split: the split's name.

    Returns:
      A JSON-able description that changes when the rows do.
    """
    described = self._identity(split)
    if self._cap(split) and self._scan(split).kept is not None:
      described["data_cap"] = self.data_cap
    if self._on_bad_row == "skip":
      described["skip"] = fingerprint.digest(self.schema)  # says which rows are bad
    return described

  def _file_identity(self, path: pathlib.Path) -> dict[str, Any]:
    """Returns size and hash of a file, read once for each of its versions."""
    version = stamp(path)
    if version not in self._digests:
      with path.open("rb") as file:
        self._digests[version] = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": self._digests[version]}

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
    kinds: Mapping[str, Any] = {**self.schema.kinds, "row_key": int}
    return row_dataset.from_rows(lambda: self.rows(split), kinds, count)


def stamp(path: pathlib.Path) -> tuple[str, int, int]:
  """Returns a value that changes when a file is written to."""
  stat = path.stat()
  return str(path), stat.st_size, stat.st_mtime_ns

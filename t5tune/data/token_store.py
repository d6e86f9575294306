"""Tokens on disk: what the SeqIO pipeline of a task gave, with random access.

A store is a directory, complete as soon as it bears its name:

    tokens.array_record   one record an example: int32 inputs, then targets
    lengths.npy           int32 (examples, 2): input and target lengths
    rows.jsonl            one line an example: its other features (evaluation)
    manifest.json         counts, lengths, vocabulary and what made the store

This module never imports tensorflow: `definitions.py` runs the pipelines.
"""

import collections
import contextlib
import fcntl
import functools
import json
import os
import pathlib
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from array_record.python import array_record_module

from t5tune import errors

_RECORDS = "tokens.array_record"


class TokenStore:
  """A reader of one store: `store[i]` is (inputs, targets), int32 arrays."""

  # Mixtures have hundreds of stores, each an open file: the pool is bounded. One
  # thread at a time, or it might close a reader that another is reading.
  _readers: collections.OrderedDict[pathlib.Path, Any] = collections.OrderedDict()
  _lock = threading.Lock()
  _MAX_READERS = 256

  def __init__(self, path: str | os.PathLike):
    self.path = pathlib.Path(path)
    try:
      self.manifest = json.loads((self.path / "manifest.json").read_text())
      # Not mapped, which would hold a file open for every store.
      self.lengths = np.load(self.path / "lengths.npy")
    except (OSError, ValueError, EOFError) as e:
      raise self._damaged(e) from e

  def __len__(self) -> int:
    return len(self.lengths)

  def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    return self.read([index])[0]

  def read(self, indices: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns (inputs, targets) of several examples, in the order asked for."""
    input_lengths = self.lengths[np.asarray(indices, int), 0]
    with TokenStore._lock:
      try:
        records = self._reader().read([int(i) for i in indices])
      except RuntimeError as e:  # array_record knows no other
        TokenStore._readers.pop(self.path)  # closing it would raise this once more
        raise self._damaged(e) from e
    return [
      tuple(np.split(np.frombuffer(record, np.int32), [length]))
      for record, length in zip(records, input_lengths, strict=True)
    ]

  @functools.cached_property
  def rows(self) -> list[dict[str, Any]]:
    """The other features of each example; only evaluation stores keep them."""
    try:
      with open(self.path / "rows.jsonl", encoding="utf-8", newline="\n") as f:
        rows = [json.loads(line) for line in f]
    except (OSError, ValueError) as e:
      raise self._damaged(e) from e
    if len(rows) != len(self):
      raise self._damaged(f"{len(rows)} rows for {len(self)} examples")
    return rows

  def _damaged(self, e: Exception | str) -> errors.UserError:
    return errors.UserError(
      f"the token store {self.path} cannot be read ({e}); delete that directory"
      " and start again: it is rebuilt from the data."
    )

  def _reader(self):
    readers = TokenStore._readers
    if self.path in readers:
      readers.move_to_end(self.path)
    else:
      while len(readers) >= self._MAX_READERS:
        readers.popitem(last=False)[1].close()
      file = str(self.path / _RECORDS)
      readers[self.path] = array_record_module.ArrayRecordReader(
        file, options="readahead_buffer_size:0"
      )
    return readers[self.path]


@contextlib.contextmanager
def writing(path: str | os.PathLike, keep_rows: bool) -> Iterator["StoreWriter"]:
  """Writes a store that appears under its name only when it is complete.

  Args:
    path: the store's final directory.
    keep_rows: whether to keep the examples' other features (`rows.jsonl`).

  Raises:
    UserError: the place cannot be written, or the disk is full.
  """
  path = pathlib.Path(path)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    scratch = tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent)
    os.chmod(scratch, 0o755)  # others may share the stores
    lock = os.open(scratch, os.O_RDONLY)
    try:
      with contextlib.suppress(OSError):  # some network disks know no locks
        fcntl.flock(lock, fcntl.LOCK_EX)  # as long as this process lives
      writer = StoreWriter(pathlib.Path(scratch), keep_rows)
      yield writer
      writer.close()
      try:
        os.rename(scratch, path)
      except OSError:
        # Another process finished the same store first: keep that one.
        if not path.is_dir():
          raise
    finally:
      os.close(lock)
      shutil.rmtree(scratch, ignore_errors=True)
  except OSError as e:
    raise errors.UserError(
      f"cannot write the token store {path}: {e.strerror or e}. Free space there, or"
      " name another place with --store_dir."
    ) from e


def _remove_abandoned(path: pathlib.Path) -> None:
  """Removes what killed processes left of a store they were writing."""
  for scratch in path.parent.glob(f".{path.name}-*"):
    with contextlib.suppress(OSError):  # another process is still writing it
      if time.time() - scratch.stat().st_mtime < 1:  # perhaps not locked yet
        continue
      lock = os.open(scratch, os.O_RDONLY)
      try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(scratch)
      finally:
        os.close(lock)


class StoreWriter:
  """Appends examples to a store; see `writing`."""

  def __init__(self, path: pathlib.Path, keep_rows: bool):
    self._path = path
    self._records = array_record_module.ArrayRecordWriter(
      str(path / _RECORDS), "group_size:1"
    )
    self._rows = open(path / "rows.jsonl", "w", encoding="utf-8") if keep_rows else None
    self._lengths: list[tuple[int, int]] = []
    self._target_counts: collections.Counter[int] = collections.Counter()
    self.manifest: dict[str, Any] = {}

  def append(self, inputs: np.ndarray, targets: np.ndarray, row: Mapping[str, Any]):
    """Adds an example: int32 tokens and its other features (JSON values)."""
    tokens = np.concatenate([inputs, targets]).astype(np.int32)
    with _runtime_as_os_errors():
      self._records.write(tokens.tobytes())
    self._lengths.append((len(inputs), len(targets)))
    self._target_counts.update(np.asarray(targets).tolist())
    if self._rows:
      self._rows.write(json.dumps(dict(row), ensure_ascii=False) + "\n")

  def __len__(self) -> int:
    return len(self._lengths)

  def close(self):
    """Completes the files."""
    with _runtime_as_os_errors():
      self._records.close()
    if self._rows:
      self._rows.close()
    lengths = np.asarray(self._lengths, np.int32).reshape(-1, 2)
    np.save(self._path / "lengths.npy", lengths)
    manifest = {
      **self.manifest,
      "examples": len(lengths),
      "input_tokens": int(lengths[:, 0].sum()),
      "target_tokens": int(lengths[:, 1].sum()),
      "target_token_counts": dict(sorted(self._target_counts.items())),
    }
    (self._path / "manifest.json").write_text(json.dumps(manifest))


@contextlib.contextmanager
def _runtime_as_os_errors() -> Iterator[None]:
  """Turns what array_record raises, on a full disk for one, into an OSError."""
  try:
    yield
  except RuntimeError as e:
    raise OSError(str(e)) from e

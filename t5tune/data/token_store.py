"""Tokens on disk: what the SeqIO pipeline of a task gave, with random access.

A store is a directory, complete as soon as it bears its name:

    tokens.bin      the examples end to end, each its inputs and then its targets:
                    little-endian uint16, or uint32 where a token needs it
    lengths.npy     int32 (examples, 2): input and target lengths
    keys.npy        int64 (examples,): a hash of what each example asks
    crc32.npy       uint32 (examples,): checksum of each example's bytes in tokens.bin
    counts.npy      int64 (tokens, 2): each token of the targets and how often it stands
    rows.jsonl      one line an example: its other features (evaluation)
    manifest.json   counts, lengths, vocabulary and what made the store; size and
                    checksum of every other file, and a checksum of itself

Plain arrays, since compressing records one by one pays for neither time nor space:
ArrayRecord took 17 µs and 2.2 to 3.9 bytes a token where this takes 2 µs and 2 bytes.

This module never imports tensorflow: `pipelines.py` runs the pipelines.
"""

import collections
import contextlib
import fcntl
import functools
import io
import json
import os
import pathlib
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from t5tune import errors
from t5tune.data import file_pool, store_manifest

_TOKENS = "tokens.bin"
_CHUNK = 2**20  # tokens that are brought into their final form together
_FILES = file_pool.FilePool()


class TokenStore:
  """A reader of one store: `store[i]` is (inputs, targets), int32 arrays.

  Whatever is read is checked against its checksum first: a damaged store raises a
  UserError, when it is opened or at the example concerned.
  """

  def __init__(self, path: str | os.PathLike):
    self.path = pathlib.Path(path)
    try:
      self.manifest = store_manifest.read(self.path)
      for name, file in self.manifest["files"].items():
        size = os.stat(self.path / name).st_size
        if size != file["size"]:
          raise ValueError(f"{name} has {size:,} bytes, not {file['size']:,}")
    except (OSError, ValueError) as e:
      raise self._damaged(e) from e
    self.lengths = self._array("lengths.npy")
    self._dtype = np.dtype(self.manifest["token_dtype"])
    _FILES.forget(self.path / _TOKENS)  # perhaps of a store that this one replaced

  def __len__(self) -> int:
    return len(self.lengths)

  def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    return self.read([index])[0]

  def read(self, indices: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns (inputs, targets) of several examples, in the order asked for."""
    lengths = self.lengths[np.asarray(indices, int)]
    tokens = self.read_tokens(indices)
    parts = np.split(tokens, np.cumsum(lengths.reshape(-1)))[:-1]
    return list(zip(parts[0::2], parts[1::2], strict=True))

  def read_tokens(self, indices: Sequence[int]) -> np.ndarray:
    """Returns the tokens of several examples end to end, in the order asked for.

    Args:
      indices: which examples.

    Returns:
      int32 (tokens,): of each example its inputs, then its targets.

    Raises:
      UserError: an example's bytes are not those that were written.
    """
    indices = np.asarray(indices, int)
    spans = zip(
      indices.tolist(),
      self._starts[indices].tolist(),
      self._sizes(indices).tolist(),
      self._checksums[indices].tolist(),
      strict=True,
    )
    records = []
    try:
      with _FILES.opened(self.path / _TOKENS) as file:
        for index, start, size, checksum in spans:
          record = os.pread(file, size, start)
          if zlib.crc32(record) != checksum:
            raise ValueError(f"example {index} in {_TOKENS} fails its checksum")
          records.append(record)
    except (OSError, ValueError) as e:
      raise self._damaged(e) from e
    return np.frombuffer(b"".join(records), self._dtype).astype(np.int32)

  @functools.cached_property
  def keys(self) -> np.ndarray:
    """int64 (examples,): a hash of what each example asks, whatever its template."""
    return self._array("keys.npy")

  @property
  def target_token_counts(self) -> dict[int, int]:
    """Each token of the targets, with how often it stands there."""
    return dict(self._array("counts.npy").tolist())

  @functools.cached_property
  def rows(self) -> list[dict[str, Any]]:
    """The other features of each example; only evaluation stores keep them."""
    try:
      text = self._bytes("rows.jsonl").decode("utf-8")
      return [json.loads(line) for line in text.split("\n")[:-1]]
    except ValueError as e:
      raise self._damaged(e) from e

  @functools.cached_property
  def _checksums(self) -> np.ndarray:
    return self._array("crc32.npy")

  @functools.cached_property
  def _starts(self) -> np.ndarray:
    """int64 (examples,): where each example begins in the file, in bytes."""
    sizes = self._sizes(slice(None))
    return np.cumsum(sizes) - sizes

  def _sizes(self, indices) -> np.ndarray:
    return self.lengths[indices].sum(axis=1, dtype=np.int64) * self._dtype.itemsize

  def _array(self, name: str) -> np.ndarray:
    # Not mapped, which would hold a file open for every store.
    return np.load(io.BytesIO(self._bytes(name)))

  def _bytes(self, name: str) -> bytes:
    """Returns the bytes of a file, which are those that were written."""
    try:
      data = (self.path / name).read_bytes()
      if zlib.crc32(data) != self.manifest["files"][name]["crc32"]:
        raise ValueError(f"{name} fails its checksum")
    except (OSError, ValueError, KeyError) as e:
      raise self._damaged(e) from e
    return data

  def _damaged(self, e: Exception | str) -> errors.UserError:
    return errors.UserError(
      f"the token store {self.path} cannot be read ({e}); delete that directory"
      " and start again: it is rebuilt from the data."
    )


def problems(path: str | os.PathLike) -> list[str]:
  """Reads a store's files from end to end and says what is wrong with them.

  Args:
    path: the store's directory.

  Returns:
    A sentence for each damaged or missing file, naming it; none for a whole store.
  """
  path = pathlib.Path(path)
  try:
    files = store_manifest.read(path)["files"]
  except (OSError, ValueError) as e:
    return [f"{path / 'manifest.json'} cannot be read: {e}"]
  found = []
  for name, file in files.items():
    try:
      if store_manifest.file_crc32(path / name) != file["crc32"]:
        found.append(f"{path / name} fails its checksum")
    except OSError as e:
      found.append(f"{path / name} cannot be read: {e.strerror or e}")
  return found


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
      with StoreWriter(pathlib.Path(scratch), keep_rows) as writer:
        yield writer
        writer.complete()
      with contextlib.suppress(OSError):  # nor may they know this of a directory
        os.fsync(lock)
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


class StoreWriter(contextlib.ExitStack):
  """Appends examples to a store; see `writing`.

  Attributes:
    manifest: what to say of the store, JSON values; filled in by the caller.
  """

  def __init__(self, path: pathlib.Path, keep_rows: bool):
    super().__init__()
    self._path = path
    self._tokens = self._open("tokens.int32")
    self._rows = self._open("rows.jsonl") if keep_rows else None
    self._lengths: list[tuple[int, int]] = []
    self._keys: list[int] = []
    self._largest = 0
    self._target_counts: collections.Counter[int] = collections.Counter()
    self.manifest: dict[str, Any] = {}

  def append(
    self, inputs: np.ndarray, targets: np.ndarray, row: Mapping[str, Any], key: int
  ) -> None:
    """Adds an example.

    Args:
      inputs: its tokens.
      targets: its tokens.
      row: its other features, as JSON values.
      key: a hash of what it asks, 0 to 2**63 - 1.

    Raises:
      UserError: a token is no token's id.
    """
    tokens = np.concatenate([inputs, targets]).astype(np.int32)
    if len(tokens) and tokens.min() < 0:
      raise errors.UserError(
        f"example {len(self)} holds the token {tokens.min()}; the ids of tokens begin"
        " at 0. Where a position is not to count, leave its token out."
      )
    self._tokens.write(tokens.tobytes())
    self._largest = max(self._largest, int(tokens.max(initial=0)))
    self._lengths.append((len(inputs), len(targets)))
    self._keys.append(key)
    self._target_counts.update(np.asarray(targets).tolist())
    if self._rows:
      self._rows.write((json.dumps(dict(row), ensure_ascii=False) + "\n").encode())

  def __len__(self) -> int:
    return len(self._lengths)

  def complete(self) -> None:
    """Writes what follows from all examples, and the manifest."""
    self.close()
    lengths = np.asarray(self._lengths, np.int32).reshape(-1, 2)
    dtype = np.dtype("<u2" if self._largest < 2**16 else "<u4")
    checksums = self._finish_tokens(lengths.sum(axis=1), dtype)
    np.save(self._path / "lengths.npy", lengths)
    np.save(self._path / "keys.npy", np.asarray(self._keys, np.int64))
    np.save(self._path / "crc32.npy", np.asarray(checksums, np.uint32))
    counts = np.asarray(sorted(self._target_counts.items()), np.int64)
    np.save(self._path / "counts.npy", counts.reshape(-1, 2))
    values = {
      **self.manifest,
      "examples": len(lengths),
      "input_tokens": int(lengths[:, 0].sum()),
      "target_tokens": int(lengths[:, 1].sum()),
      "token_dtype": dtype.str,
    }
    store_manifest.write(self._path, values)

  def _finish_tokens(self, sizes: np.ndarray, dtype: np.dtype) -> list[int]:
    """Writes the tokens in their final type; returns each example's checksum."""
    written = self._path / "tokens.int32"
    ends = np.cumsum(sizes, dtype=np.int64)
    # Examples that are brought into their final form together.
    parts = np.split(sizes, np.flatnonzero(np.diff(ends // _CHUNK)) + 1)
    checksums = []
    with open(written, "rb") as source, open(self._path / _TOKENS, "wb") as final:
      for part in parts:
        tokens = np.fromfile(source, np.int32, part.sum()).astype(dtype).tobytes()
        final.write(tokens)
        bounds = np.cumsum([0, *part]) * dtype.itemsize
        for start, end in zip(bounds[:-1], bounds[1:], strict=True):
          checksums.append(zlib.crc32(tokens[start:end]))
    written.unlink()
    return checksums

  def _open(self, name: str) -> BinaryIO:
    return self.enter_context(open(self._path / name, "wb"))

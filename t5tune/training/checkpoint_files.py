"""The files of checkpoints: a checkpoint is whole or it is none, and damage is found.

    <step>/arrays/      orbax: parameters, the optimiser's state, the average
    <step>/files.json   size and checksums of every file in there
    <step>/meta.json    JSON values kept beside them, a checksum of every array

A checkpoint is made as `<step>.partial` and given its name when every byte of it is on
disk; one that is to go is called `<step>.deleted` first. So a process may be killed at
any moment. orbax notices no flipped bit; the checksums here do.
"""

import concurrent.futures
import errno
import json
import math
import os
import pathlib
import shutil
import zlib
from collections.abc import Mapping
from typing import Any

from t5tune import errors
from t5tune.training import workdir

ARRAYS, META, _FILES = "arrays", "meta.json", "files.json"
_PARTIAL, _DELETED = ".partial", ".deleted"
_BLOCK = 16 * 2**20  # bytes under one checksum
_DISK_ERRORS = (
  *("No space left on device", "Disk quota exceeded", "File too large"),
  *("Input/output error", "Permission denied", "Read-only file system"),
)


def steps(directory: pathlib.Path) -> list[int]:
  """Returns the steps of the checkpoints in a directory, in order."""
  if not directory.is_dir():
    return []
  return sorted(int(p.name) for p in directory.iterdir() if p.name.isdigit())


def partial(directory: pathlib.Path, step: int) -> pathlib.Path:
  """Returns where the checkpoint of a step is made."""
  return directory / f"{step}{_PARTIAL}"


def commit(directory: pathlib.Path, step: int, meta: Mapping[str, Any]) -> None:
  """Turns what lies under `partial` into the checkpoint of a step.

  Args:
    directory: the directory of the checkpoints.
    step: which one; its arrays are written.
    meta: JSON values kept beside them.

  Raises:
    OSError, UserError: the disk is full or cannot be written.
  """
  folder = partial(directory, step)
  found = sorted(p for p in folder.rglob("*") if p.is_file())
  entries = {p.relative_to(folder).as_posix(): _entry(p) for p in found}
  workdir.write_atomically(folder / _FILES, _sealed({"files": entries}))
  workdir.write_atomically(folder / META, _sealed(meta))
  for path in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
    _sync(path)
  folder.rename(directory / str(step))
  _sync(directory)  # before an older one goes


def amend(directory: pathlib.Path, step: int, meta: Mapping[str, Any]) -> None:
  """Writes the JSON values of a checkpoint anew.

  Raises:
    UserError: it has none that are whole, or the disk is full.
  """
  folder = directory / str(step)
  before = read_meta(folder)
  if before is None:
    raise errors.UserError(f"checkpoint {folder} is damaged: {META} is not as saved.")
  sums = {"checksums": before["checksums"]}
  workdir.write_atomically(folder / META, _sealed({**meta, **sums}))


def remove(directory: pathlib.Path, step: int) -> None:
  """Removes the checkpoint of a step, so that no half of it is ever taken for one."""
  doomed = directory / f"{step}{_DELETED}"
  (directory / str(step)).rename(doomed)
  shutil.rmtree(doomed, ignore_errors=True)


def remove_leftovers(directory: pathlib.Path) -> bool:
  """Removes what was being written or removed when a process was killed or failed.

  Returns:
    Whether there was anything.
  """
  paths = list(directory.iterdir()) if directory.is_dir() else []
  left = [p for p in paths if p.name.partition(".")[0].isdigit() and "." in p.name]
  for path in left:
    shutil.rmtree(path, ignore_errors=True)
  return bool(left)


def put_aside(directory: pathlib.Path, step: int) -> pathlib.Path:
  """Moves a damaged checkpoint into `damaged/` beside the directory; returns where."""
  aside = directory.parent / "damaged" / str(step)
  number = 1
  while aside.exists():
    number += 1
    aside = aside.with_name(f"{step}-{number}")
  aside.parent.mkdir(exist_ok=True)
  (directory / str(step)).rename(aside)
  return aside


def read_meta(folder: pathlib.Path) -> dict[str, Any] | None:
  """Returns the JSON values of a checkpoint; None if they are not as saved."""
  return _read_sealed(folder / META)


def damage(folder: pathlib.Path, index: int = 0, count: int = 1) -> str | None:
  """Returns what is wrong with a checkpoint's files, or None.

  Args:
    folder: the checkpoint.
    index: which of the readers this is.
    count: how many share the reading; each looks at its part of every file.

  Raises:
    OSError: a file cannot be read for a reason that lies not in the file.
  """
  listed = _read_sealed(folder / _FILES)
  if listed is None:
    state = "not as saved" if (folder / _FILES).exists() else "missing"
    return f"{_FILES}, the list of its files, is {state}"
  blocks = []
  for name, entry in sorted(listed["files"].items()):
    path = folder / name
    if not path.is_file():
      return f"{name} is missing"
    if (size := path.stat().st_size) != entry["size"]:
      return f"{name} has {size:,} bytes of {entry['size']:,}"
    blocks += [(name, i, crc32) for i, crc32 in enumerate(entry["crc32"])]
  with concurrent.futures.ThreadPoolExecutor() as pool:
    found = pool.map(lambda block: _block_damage(folder, *block), blocks[index::count])
    return next((problem for problem in found if problem), None)


def is_disk_error(e: BaseException) -> bool:
  """Whether an exception, of whatever kind, tells of a disk that cannot be written."""
  return isinstance(e, OSError) or any(sign in str(e) for sign in _DISK_ERRORS)


def disk_error(e: BaseException) -> str:
  """Returns in few words what such an exception tells."""
  if isinstance(e, OSError) and e.strerror:
    return e.strerror
  known = (sign for sign in _DISK_ERRORS if sign in str(e))
  return next(known, str(e).partition("\n")[0])


def _block_damage(folder: pathlib.Path, name: str, block: int, crc32: int):
  try:
    found = _crc32(folder / name, block)
  except OSError as e:
    if e.errno != errno.EIO:
      raise
    return f"{name} cannot be read ({e.strerror})"
  if found != crc32:
    first = block * _BLOCK
    return f"{name} is not as saved (within {_BLOCK:,} bytes from byte {first:,})"
  return None


def _entry(path: pathlib.Path) -> dict[str, Any]:
  """Returns the size and checksums of a file, which is then on disk."""
  _sync(path)
  size = path.stat().st_size
  return {
    "size": size,
    "crc32": [_crc32(path, i) for i in range(math.ceil(size / _BLOCK))],
  }


def _crc32(path: pathlib.Path, block: int) -> int:
  with path.open("rb", buffering=0) as f:
    f.seek(block * _BLOCK)
    return zlib.crc32(f.read(_BLOCK))


def _sync(path: pathlib.Path) -> None:
  """Waits until a file or folder is on disk, should the power fail."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def _sealed(values: Mapping[str, Any]) -> str:
  """Returns JSON values, with a checksum of themselves, as text."""
  values = json.loads(json.dumps(values))
  return json.dumps({**values, "crc32": _crc32_of(values)}) + "\n"


def _read_sealed(path: pathlib.Path) -> dict[str, Any] | None:
  try:
    values = json.loads(path.read_text(encoding="utf-8"))
    crc32 = values.pop("crc32")
  except (OSError, ValueError, KeyError, AttributeError):
    return None
  return values if crc32 == _crc32_of(values) else None


def _crc32_of(values: Mapping[str, Any]) -> int:
  return zlib.crc32(json.dumps(values, sort_keys=True).encode())

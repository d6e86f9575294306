"""Answers on disk, written so that a killed run continues after its last whole line."""

import fcntl
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from t5tune import errors


class AnswerFile:
  """Lines that get the name FILE when all are there; until then FILE.partial.

  FILE.partial.json holds what they are made by, so that no other settings go on there.
  FILE.partial is locked while a process writes it.

  Attributes:
    done: whole lines that an earlier start has written.
  """

  def __init__(self, path: pathlib.Path, made_by: Mapping[str, Any]):
    """Opens the file to write.

    Args:
      path: the file that is to be.
      made_by: what decides its lines, as JSON values.

    Raises:
      UserError: it is there already, another process writes it, it was begun with other
        settings, or cannot be written.
    """
    self._path = path
    self._partial = path.with_name(path.name + ".partial")
    self._settings = path.with_name(path.name + ".partial.json")
    check_new(path)
    made_by = json.loads(json.dumps(made_by))
    try:
      path.parent.mkdir(parents=True, exist_ok=True)
      self._file = self._partial.open("ab+", buffering=0)
      self._lock()
      content = self._begun_content(made_by)
      whole = content[: content.rfind(b"\n") + 1]
      self._file.truncate(len(whole))
      self.done = whole.count(b"\n")
      self._settings.write_text(json.dumps(made_by, indent=1) + "\n")
    except OSError as e:
      raise self._cannot(e) from e

  def append(self, lines: Sequence[str]) -> None:
    """Writes lines, and waits until they lie on the disk.

    Raises:
      UserError: they cannot be written.
    """
    try:
      left = memoryview("".join(line + "\n" for line in lines).encode())
      while left:
        left = left[self._file.write(left) :]
      os.fsync(self._file.fileno())
    except OSError as e:
      raise self._cannot(e) from e

  def finish(self) -> None:
    """Gives the file its name.

    Raises:
      UserError: a file of this name has come up meanwhile; the answers stay beside it.
    """
    check_new(self._path)
    try:
      self._partial.replace(self._path)
      self._settings.unlink(missing_ok=True)
    except OSError as e:
      raise self._cannot(e) from e

  def close(self) -> None:
    """Lets others write the file."""
    self._file.close()

  def _lock(self) -> None:
    try:
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise errors.UserError(
        f"--output={self._path} is being written by another process. Wait for it, or"
        " name another."
      ) from None

  def _begun_content(self, made_by: Mapping[str, Any]) -> bytes:
    """Returns what an earlier start with the same settings has written."""
    self._file.seek(0)
    content = self._file.read()
    if not content:
      return b""
    anew = f"Remove {self._partial} to begin anew, or name another --output."
    try:
      before = json.loads(self._settings.read_text())
      items = {name: before.get(name) for name in made_by}
    except (OSError, ValueError, AttributeError) as e:
      raise errors.UserError(
        f"{self._settings} does not say how {self._partial} was begun. {anew}"
      ) from e
    for name, value in made_by.items():
      if items[name] != value:
        raise errors.UserError(
          f"{self._partial} was begun with {name} = {items[name]}, now it is {value}."
          f" {anew}"
        )
    return content

  def _cannot(self, e: OSError) -> errors.UserError:
    return errors.UserError(
      f"cannot write {self._partial}: {e.strerror or e}. What is there stays; make room,"
      " or name another --output."
    )


def check_new(path: pathlib.Path) -> None:
  """Checks that no file of this name is there.

  Raises:
    UserError: one is.
  """
  if path.exists():
    raise errors.UserError(
      f"--output={path} is there already: remove it, or name another."
    )

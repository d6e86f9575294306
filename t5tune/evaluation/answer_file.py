"""Answers on disk, written so that a killed run continues after its last whole line."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from t5tune import errors
from t5tune.training import workdir


class AnswerFile:
  """Lines that get the name FILE when all are there; until then FILE.partial.

  FILE.partial.json holds what they are made by, so that no other settings go on there.

  Attributes:
    done: whole lines that an earlier start has written.
  """

  def __init__(self, path: pathlib.Path, made_by: Mapping[str, Any]):
    """Opens the file to write.

    Args:
      path: the file that is to be.
      made_by: what decides its lines, as JSON values.

    Raises:
      UserError: it is there already, was begun with other settings, or cannot be
        written.
    """
    self._path = path
    self._partial = path.with_name(path.name + ".partial")
    self._settings = path.with_name(path.name + ".partial.json")
    made_by = json.loads(json.dumps(made_by))
    if path.exists():
      raise errors.UserError(
        f"--output={path} is there already: remove it, or name another."
      )
    try:
      if self._partial.exists() and self._settings.exists():
        self._check(made_by)
        content = self._partial.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        os.truncate(self._partial, len(whole))
        self.done = whole.count(b"\n")
      else:
        workdir.write_atomically(self._settings, json.dumps(made_by, indent=1) + "\n")
        self._partial.write_bytes(b"")
        self.done = 0
      self._file = self._partial.open("ab")
    except OSError as e:
      raise self._cannot(e) from e

  def append(self, lines: Sequence[str]) -> None:
    """Writes lines, and waits until they lie on the disk.

    Raises:
      UserError: they cannot be written.
    """
    try:
      self._file.write("".join(line + "\n" for line in lines).encode())
      self._file.flush()
      os.fsync(self._file.fileno())
    except OSError as e:
      raise self._cannot(e) from e

  def finish(self) -> None:
    """Gives the file its name."""
    self._file.close()
    self._partial.replace(self._path)
    self._settings.unlink()

  def _check(self, made_by: Mapping[str, Any]) -> None:
    before = json.loads(self._settings.read_text())
    for name, value in made_by.items():
      if before.get(name) != value:
        raise errors.UserError(
          f"{self._partial} was begun with {name} = {before.get(name)}, now it is"
          f" {value}. Remove it to begin anew, or name another --output."
        )

  def _cannot(self, e: OSError) -> errors.UserError:
    return errors.UserError(
      f"cannot write {self._partial}: {e.strerror or e}. What is there stays; make room,"
      " or name another --output."
    )

"""The manifest of a token store: what is in it, with checksums of all its files."""

import json
import os
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

FORMAT = 2  # of a token store's files
_NAME = "manifest.json"


def write(path: pathlib.Path, values: Mapping[str, Any]) -> None:
  """Writes the manifest of a directory whose other files are complete.

  Args:
    path: the directory.
    values: what to say of the store, JSON values.
  """
  files = sorted(path.iterdir())
  manifest = {
    "format": FORMAT,
    **values,
    "files": {
      f.name: {"size": f.stat().st_size, "crc32": file_crc32(f)} for f in files
    },
  }
  manifest["crc32"] = _own_crc32(manifest)
  (path / _NAME).write_text(json.dumps(manifest), encoding="utf-8")
  for file in path.iterdir():  # on the disk, before the store bears its name
    with open(file, "rb") as f:
      os.fsync(f.fileno())


def read(path: pathlib.Path) -> dict[str, Any]:
  """Returns the manifest of a store.

  Args:
    path: the store's directory.

  Raises:
    OSError: it cannot be read.
    ValueError: it is not what was written, or of another format.
  """
  try:
    manifest = json.loads((path / _NAME).read_text(encoding="utf-8"))
  except ValueError as e:
    raise ValueError(f"{_NAME}: {e}") from e
  found = manifest.get("format") if isinstance(manifest, dict) else None
  if found != FORMAT:
    raise ValueError(f"{_NAME}: its format is {found}, not {FORMAT}")
  if manifest.get("crc32") != _own_crc32(manifest):
    raise ValueError(f"{_NAME} fails its checksum")
  return manifest


def file_crc32(file: pathlib.Path) -> int:
  """Returns the CRC-32 of a file's bytes."""
  value = 0
  with open(file, "rb") as f:
    while chunk := f.read(2**22):
      value = zlib.crc32(chunk, value)
  return value


def _own_crc32(manifest: Mapping[str, Any]) -> int:
  """Returns the checksum of a manifest: of its JSON, without this checksum."""
  values = {k: v for k, v in manifest.items() if k != "crc32"}
  return zlib.crc32(json.dumps(values).encode())

"""Rows: what a source reads, checked and keyed before it becomes text.

Plain Python: a row is a dict of texts, integers and lists of texts. Anything a user
can get wrong in a data file is found here and named by file, line and field.
"""

import dataclasses
import gzip
import hashlib
import json
import pathlib
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from t5tune.errors import UserError, did_you_mean

# A field's kind is `str`, `int` or `list[str]`.
Kind = Any
_NAMES = {str: "a text", int: "an integer", list[str]: "a list of texts"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_SAMPLES = {str: "...", int: 1, list[str]: ["..."]}
# A longer line is no row of text: the file is not what it seems to be.
MAX_LINE = 4 * 2**20


class BadRow(UserError):
  """A row that cannot be used; those behind it can."""


@dataclasses.dataclass(frozen=True)
class Schema:
  """The fields a row must or may have.

  Attributes:
    fields: kind of each field every row must have; texts and lists not empty.
    optional: kind of each field that a row may lack; it is then "", 0 or [].
    check: raises ValueError, naming field and fix, on a row that is wrong in a way
      that kinds do not tell.
    allow_empty: whether texts and lists of `fields` may be empty after all.
  """

  fields: Mapping[str, Kind]
  optional: Mapping[str, Kind]
  check: Callable[[Mapping[str, Any]], None] | None
  allow_empty: bool = False

  def __post_init__(self):
    for name, kind in self.kinds.items():
      if kind not in _NAMES:
        raise UserError(
          f"Field {name!r} is declared as {kind!r}: declare str, int or list[str]."
        )

  @property
  def kinds(self) -> dict[str, Kind]:
    """Kind of every field, required ones first."""
    return {**self.fields, **self.optional}

  @property
  def sample(self) -> str:
    """A line of JSON in the form of a row, for messages."""
    return json.dumps({name: _SAMPLES[kind] for name, kind in self.fields.items()})

  def row(self, where: str, raw: Any) -> dict[str, Any]:
    """Checks a row as it was found.

    Args:
      where: file and line, for messages.
      raw: what stands there; a `BadRow` where it could not be read.

    Returns:
      The declared fields and `row_key`.

    Raises:
      BadRow: not an object, or a field is missing, of another kind or empty, or
        `check` refuses the row.
    """
    if isinstance(raw, BadRow):
      raise raw
    if not isinstance(raw, Mapping):
      raise BadRow(
        f"{where}: {shown(raw)} instead of an object. Each line is one object such"
        f" as {self.sample}."
      )
    row = {}
    for name, kind in self.fields.items():
      if name not in raw:
        raise BadRow(
          f"{where}: field {name!r} is missing.{did_you_mean(name, raw)} Each row"
          f" needs {', '.join(self.fields)}."
        )
      row[name] = _typed(where, name, kind, raw[name])
      if kind is not int and not self.allow_empty and _is_empty(row[name]):
        raise BadRow(f"{where}: field {name!r} is empty. Fill it in or remove the row.")
    for name, kind in self.optional.items():
      value = raw.get(name)
      row[name] = kind() if value is None else _typed(where, name, kind, value)
    if self.check:
      try:
        self.check(row)
      except ValueError as error:
        raise BadRow(f"{where}: {error}") from error
    row["row_key"] = row_key(row)
    return row


def row_key(row: Mapping[str, Any]) -> int:
  """Returns a row's key: a hash of its content, the same wherever the row stands.

  Args:
    row: field values (str, int or list of str); fields that are empty or 0 do not
      count, so that a row read from files without an optional field keeps its key in
      TFDS, which knows no absent field.

  Returns:
    Non-negative 63-bit integer.
  """
  content = {name: value for name, value in row.items() if value}
  text = json.dumps(content, sort_keys=True, separators=(",", ":"))
  digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
  return int.from_bytes(digest) >> 1


def read_lines(path: pathlib.Path) -> Iterator[tuple[str, bytes | BadRow]]:
  """Reads a text file line by line, never holding more than `MAX_LINE` bytes of it.

  Bytes, because text files also break lines at a lone carriage return.

  Args:
    path: the file; unpacked on the way where it ends in .gz.

  Yields:
    (file:line, the line with its end, or a `BadRow` for one that is too long); a
    byte-order mark is left out.

  Raises:
    UserError: the file cannot be read.
  """
  packed = path.suffix.lower() == ".gz"
  number = 0
  try:
    with gzip.open(path) if packed else path.open("rb") as file:
      while line := file.readline(MAX_LINE + 1):
        number += 1
        where = f"{path}:{number}"
        if number == 1:
          line = line.removeprefix(b"\xef\xbb\xbf")
        if len(line) <= MAX_LINE:
          yield where, line
        else:
          yield where, _too_long(where, file, line)
  except (OSError, EOFError, zlib.error) as error:
    if packed and not (isinstance(error, OSError) and error.strerror):
      raise UserError(
        f"{path}:{number + 1}: not a whole gzip file: {error}. Pack it again."
      ) from error
    raise UserError(
      f"{path} cannot be read: {error.strerror}. Make it a readable file."
    ) from error


def _too_long(where: str, file, line: bytes) -> BadRow:
  """Passes over the rest of a line and returns what is wrong with it."""
  size = len(line)
  while not line.endswith(b"\n") and (line := file.readline(MAX_LINE)):
    size += len(line)
  return BadRow(
    f"{where}: a line of {size:,} bytes, where a row may have {MAX_LINE:,}. Write one"
    " row a line, and cut or remove this one."
  )


def read_json_lines(path: pathlib.Path) -> Iterator[tuple[str, Any]]:
  """Reads a JSON Lines file, passing over blank lines.

  Args:
    path: the file, UTF-8, perhaps packed as .gz.

  Yields:
    (file:line, the value that stands there, or a `BadRow` where that is not JSON).

  Raises:
    UserError: the file cannot be read.
  """
  for where, line in read_lines(path):
    if isinstance(line, BadRow):
      yield where, line
    elif line.strip():
      yield where, _parsed(where, line)


def _parsed(where: str, line: bytes) -> Any:
  try:
    return json.loads(line.rstrip().decode())
  except UnicodeDecodeError as error:
    return BadRow(
      f"{where}: not UTF-8 (byte {error.start + 1}). Save the file as UTF-8."
    )
  except json.JSONDecodeError as error:
    return BadRow(
      f"{where}: not JSON: {error.msg} at column {error.colno}. Write one object a"
      " line; newlines inside a text are \\n."
    )
  except (ValueError, RecursionError) as error:  # a number, or nesting, beyond Python's
    return BadRow(f"{where}: not JSON that can be read: {error}. Remove the row.")


def _typed(where: str, name: str, kind: Kind, value: Any) -> Any:
  """Returns a value that has its field's kind, or raises a `BadRow`."""
  texts = []
  if kind == list[str]:
    fits = isinstance(value, list) and all(_is_text(v) for v in value)
    texts = value
  elif kind is str:
    fits = _is_text(value)
    texts = [value]
  else:
    # A bool is an int to Python, not to the reader of a data file.
    fits = isinstance(value, int) and not isinstance(value, bool)
    fits = fits and -(2**63) <= value < 2**63
  if not fits:
    raise BadRow(
      f"{where}: field {name!r} is {shown(value)}, where {_NAMES[kind]} is needed."
    )
  for text in texts:
    if "\0" in text:
      raise BadRow(
        f"{where}: field {name!r} holds a NUL character, at character"
        f" {text.index(chr(0)) + 1}. Remove it: it is no text."
      )
  return value


def _is_text(value: Any) -> bool:
  # JSON can spell half of a surrogate pair, which is no character.
  return isinstance(value, str) and not _SURROGATE.search(value)


def _is_empty(value: str | list[str]) -> bool:
  return not (value.strip() if isinstance(value, str) else value)


def shown(value: Any) -> str:
  """Returns a value as it stands in a file, cut to a message's length."""
  # Readable, but with half a surrogate pair, which cannot be printed, escaped.
  text = json.dumps(value, ensure_ascii=False, default=str)
  text = _SURROGATE.sub(lambda m: f"\\u{ord(m[0]):04x}", text)
  return text if len(text) <= 40 else text[:37] + "..."

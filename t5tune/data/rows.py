"""Rows: what a source reads, checked and keyed before it becomes text.

Plain Python: a row is a dict of texts, integers and lists of texts. Anything a user
can get wrong in a data file is found here and named by file, line and field.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from t5tune.errors import UserError, did_you_mean

# A field's kind is `str`, `int` or `list[str]`.
Kind = Any
_NAMES = {str: "a text", int: "an integer", list[str]: "a list of texts"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_SAMPLES = {str: "...", int: 1, list[str]: ["..."]}


@dataclasses.dataclass(frozen=True)
class Schema:
  """The fields a row must or may have.

  Attributes:
    fields: kind of each field every row must have; texts and lists not empty.
    optional: kind of each field that a row may lack; it is then "", 0 or [].
    check: raises ValueError, naming field and fix, on a row that is wrong in a way
      that kinds do not tell.
  """

  fields: Mapping[str, Kind]
  optional: Mapping[str, Kind]
  check: Callable[[Mapping[str, Any]], None] | None

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
      raw: what stands there.

    Returns:
      The declared fields and `row_key`.

    Raises:
      UserError: not an object, or a field is missing, of another kind or empty, or
        `check` refuses the row.
    """
    if not isinstance(raw, Mapping):
      raise UserError(
        f"{where}: {_shown(raw)} instead of an object. Each line is one object such"
        f" as {self.sample}."
      )
    row = {}
    for name, kind in self.fields.items():
      if name not in raw:
        raise UserError(
          f"{where}: field {name!r} is missing.{did_you_mean(name, raw)} Each row"
          f" needs {', '.join(self.fields)}."
        )
      row[name] = _typed(where, name, kind, raw[name])
      if kind is not int and _is_empty(row[name]):
        raise UserError(
          f"{where}: field {name!r} is empty. Fill it in or remove the row."
        )
    for name, kind in self.optional.items():
      value = raw.get(name)
      row[name] = kind() if value is None else _typed(where, name, kind, value)
    if self.check:
      try:
        self.check(row)
      except ValueError as error:
        raise UserError(f"{where}: {error}") from error
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


def read_json_lines(path: pathlib.Path) -> Iterator[tuple[str, Any]]:
  """Reads a JSON Lines file, passing over blank lines.

  Args:
    path: the file, UTF-8.

  Yields:
    (file:line, the value that stands there).

  Raises:
    UserError: the file cannot be read, or a line is not JSON.
  """
  try:
    # Bytes, because text files also break lines at a lone carriage return.
    with path.open("rb") as file:
      for number, line in enumerate(file, start=1):
        if number == 1:
          line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
          yield f"{path}:{number}", _parsed(f"{path}:{number}", line)
  except OSError as error:
    raise UserError(
      f"{path} cannot be read: {error.strerror}. Make it a readable file."
    ) from error


def _parsed(where: str, line: bytes) -> Any:
  try:
    return json.loads(line.rstrip().decode())
  except UnicodeDecodeError as error:
    raise UserError(
      f"{where}: not UTF-8 (byte {error.start + 1}). Save the file as UTF-8."
    ) from error
  except json.JSONDecodeError as error:
    raise UserError(
      f"{where}: not JSON: {error.msg} at column {error.colno}. Write one object a"
      " line; newlines inside a text are \\n."
    ) from error


def _typed(where: str, name: str, kind: Kind, value: Any) -> Any:
  """Returns a value that has its field's kind, or raises a UserError."""
  if kind == list[str]:
    fits = isinstance(value, list) and all(_is_text(v) for v in value)
  elif kind is str:
    fits = _is_text(value)
  else:
    # A bool is an int to Python, not to the reader of a data file.
    fits = isinstance(value, int) and not isinstance(value, bool)
    fits = fits and -(2**63) <= value < 2**63
  if not fits:
    raise UserError(
      f"{where}: field {name!r} is {_shown(value)}, where {_NAMES[kind]} is needed."
    )
  return value


def _is_text(value: Any) -> bool:
  # JSON can spell half of a surrogate pair, which is no character.
  return isinstance(value, str) and not _SURROGATE.search(value)


def _is_empty(value: str | list[str]) -> bool:
  return not (value.strip() if isinstance(value, str) else value)


def _shown(value: Any) -> str:
  """Returns a value as it stands in a file, cut to a message's length."""
  # Readable, but with half a surrogate pair, which cannot be printed, escaped.
  text = json.dumps(value, ensure_ascii=False, default=str)
  text = _SURROGATE.sub(lambda m: f"\\u{ord(m[0]):04x}", text)
  return text if len(text) <= 40 else text[:37] + "..."

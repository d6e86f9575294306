"""File formats: JSON Lines, CSV, TSV and Parquet, each read as (where, raw row).

The first step from a user's own file to rows. A row that cannot be read comes as a
`rows.BadRow`, so that the source may go on behind it; what spoils the rest of the file
is raised.
"""

import csv
import math
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from t5tune.data import rows
from t5tune.data.rows import BadRow
from t5tune.errors import UserError, did_you_mean

# The feature that holds a row's further references.
REFERENCES = "further_references"

_DELIMITERS = {"csv": ",", "tsv": "\t"}
_TEXTS = ("jsonl", *_DELIMITERS)
_FORMATS = (*_TEXTS, "parquet")
# A byte that is not UTF-8, as the decoder hands it on.
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_PARQUET_ROWS = 256


def format_of(path: pathlib.Path) -> str:
  """Returns the format that a file's name tells: jsonl, csv, tsv or parquet.

  Raises:
    UserError: another ending.
  """
  ends = [suffix.lstrip(".").lower() for suffix in path.suffixes]
  packed = ends[-1:] == ["gz"]
  kind = ends[-2 if packed else -1] if len(ends) > packed else ""
  if kind not in (_TEXTS if packed else _FORMATS):
    near = did_you_mean(kind, set(_FORMATS) - {kind})
    if kind == "json":
      near = " Rename it to .jsonl if it holds one object a line."
    raise UserError(
      "its name must tell a format that t5tune reads:"
      f" .{', .'.join(_FORMATS)}, the first three also with .gz.{near}"
    )
  return kind


def read(
  path: pathlib.Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[str, Any]]:
  """Reads a file's rows.

  Args:
    path: the file; its name tells the format.
    columns: the columns that are needed; a table must have them.
    optional: columns that are read where a table has them.

  Yields:
    (file and line or row, a dict, in JSON Lines any value, or a `BadRow`).

  Raises:
    UserError: the file cannot be read, lacks a column, or has an open quote.
  """
  kind = format_of(path)
  if kind == "jsonl":
    yield from rows.read_json_lines(path)
  elif kind == "parquet":
    yield from _parquet(path, columns, optional)
  else:
    yield from _delimited(path, columns, optional, kind)


def as_text(where: str, name: str, value: Any) -> str:
  """Returns a text, number or truth value as text, spelt as JSON spells it.

  Args:
    where: file and line, for messages.
    name: the column.
    value: what stands there.

  Raises:
    BadRow: null, not a number, or another kind of value.
  """
  if isinstance(value, bytes):
    try:
      return value.decode()
    except UnicodeDecodeError as error:
      raise BadRow(
        f"{where}: field {name!r} is not UTF-8. Write it as UTF-8 text."
      ) from error
  if isinstance(value, str):
    return value
  if isinstance(value, bool):
    return "true" if value else "false"
  if isinstance(value, int) or isinstance(value, float) and math.isfinite(value):
    return str(value)
  if value is None or isinstance(value, float):
    raise BadRow(
      f"{where}: field {name!r} is {rows.shown(value)}. Fill it in or remove the row."
    )
  raise BadRow(
    f"{where}: field {name!r} is {rows.shown(value)}, where a text or a number is"
    " needed. Turn it into text in the file."
  )


def _require(
  path: pathlib.Path, columns: Sequence[str], known: Sequence[str], hint: str = ""
) -> None:
  for name in columns:
    if name not in known:
      raise UserError(
        f"{path} has no column {name!r}.{did_you_mean(name, known)} It has:"
        f" {', '.join(map(repr, known)) or 'none'}.{hint} INPUTS and TARGETS name"
        " columns."
      )


class _Lines:
  """The lines of a file as text; going on after a line that is too long.

  Attributes:
    number: lines read so far.
  """

  def __init__(self, path: pathlib.Path):
    self.number = 0
    self._lines = rows.read_lines(path)

  def __iter__(self) -> "_Lines":
    return self

  def __next__(self) -> str:
    _, line = next(self._lines)
    self.number += 1
    if isinstance(line, BadRow):
      raise line
    return line.decode(errors="surrogateescape")


def _delimited(
  path: pathlib.Path, columns: Sequence[str], optional: Sequence[str], kind: str
) -> Iterator[tuple[str, Any]]:
  """Reads CSV or TSV: a header, quotes as in RFC 4180, newlines inside quotes."""
  # The module's own limit of 128 KiB is for the whole process.
  csv.field_size_limit(rows.MAX_LINE)
  lines = _Lines(path)
  # Strict: a quote left open must not swallow the rows behind it.
  reader = csv.reader(lines, delimiter=_DELIMITERS[kind], strict=True)
  header: list[str] | None = None
  while True:
    where = f"{path}:{lines.number + 1}"
    try:
      cells = next(reader)
    except StopIteration:
      return
    except BadRow as error:
      yield where, error
      continue
    except csv.Error as error:
      yield where, _csv_error(where, kind, error)
      continue
    if not cells:
      continue
    if any(map(_NOT_UTF8.search, cells)):
      row = BadRow(f"{where}: not UTF-8. Save the file as UTF-8.")
    elif header is None:
      header = [name.strip() for name in cells]
      separated = "a comma" if kind == "csv" else "a tab"
      _require(path, columns, header, f" Columns are separated by {separated}.")
      _check_once(where, [*columns, *optional], header)
      continue
    elif len(cells) != len(header):
      row = BadRow(
        f"{where}: {len(cells)} cells where the header has {len(header)}. Put quotes"
        " around a text that holds a separator, and double the quotes inside it."
      )
    else:
      row = dict(zip(header, cells, strict=True))
    if header is None:
      raise row  # no row can be read without the header
    yield where, row


def _csv_error(where: str, kind: str, error: csv.Error) -> BadRow:
  """Returns a row's error, or raises one that took the rows behind it away."""
  message = str(error)
  if "end of data" in message or "field limit" in message:
    raise UserError(
      f"{where}: a quote that opens in the row that starts here is not closed within"
      f" {rows.MAX_LINE >> 20} MiB or by the end of the file. Close it, or double a"
      " quote that is part of a text."
    ) from error
  return BadRow(
    f"{where}: not {kind.upper()}: {message.split(' - ')[0]}. Put quotes around a text"
    " that holds quotes or line breaks, and double the quotes inside it."
  )


def _check_once(where: str, columns: Sequence[str], header: Sequence[str]) -> None:
  for name in columns:
    if header.count(name) > 1:
      raise UserError(
        f"{where}: column {name!r} stands twice in the header: rename one."
      )


def _parquet(
  path: pathlib.Path, columns: Sequence[str], optional: Sequence[str]
) -> Iterator[tuple[str, Any]]:
  import pyarrow
  from pyarrow import parquet

  try:
    with parquet.ParquetFile(path) as file:
      known = file.schema_arrow.names
      _require(path, columns, known)
      _check_once(str(path), [*columns, *optional], known)
      wanted = [*columns, *(name for name in optional if name in known)]
      number = 0
      for batch in file.iter_batches(_PARQUET_ROWS, columns=wanted):
        values = [_values(batch.column(name)) for name in wanted]
        for row in zip(*values, strict=True):
          number += 1
          yield f"{path}: row {number}", dict(zip(wanted, row, strict=True))
  except (pyarrow.ArrowException, OSError) as error:
    cause = str(error).splitlines()[0]
    raise UserError(
      f"{path} cannot be read as Parquet: {cause}. Write the file again."
    ) from error


def _values(column) -> list[Any]:
  """Returns a column's values as Python has them; invalid UTF-8 as bytes."""
  import pyarrow

  try:
    values = column.to_pylist()
  except UnicodeDecodeError:
    return column.cast(pyarrow.binary()).to_pylist()
  if pyarrow.types.is_floating(column.type):
    # The shortest spelling in its own precision, not that of the wider number.
    narrow = column.type.to_pandas_dtype()
    return [None if v is None else float(str(narrow(v))) for v in values]
  return values

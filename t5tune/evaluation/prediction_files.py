"""Predictions to score: those of a run, of another tool, or a text with a line each."""

import dataclasses
import gzip
import json
import pathlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from t5tune import errors


@dataclasses.dataclass(frozen=True)
class Predictions:
  """What a system answered, and what humans did.

  Attributes:
    path: the file.
    texts: an answer for each row.
    references: the references of each row, at least one.
    sources: what each row is a summary of, or None where the file does not say.
    at_cap: share of the answers that met the length limit, 0 to 1, or None where the
      file does not say.
  """

  path: pathlib.Path
  texts: list[str]
  references: list[list[str]]
  sources: list[str] | None
  at_cap: float | None


def read(
  path: pathlib.Path,
  rows_path: pathlib.Path | None = None,
  reference_fields: Sequence[str] = ("references",),
  source_field: str | None = None,
) -> Predictions:
  """Reads a file of predictions.

  Args:
    path: JSON Lines with a field `prediction`, and `cut` where it is known, as a run
      leaves them in `predictions/`, also packed as .gz;
      a file that ends in .txt has a prediction a line, and needs `rows_path`.
    rows_path: JSON Lines that hold the references, in the same order; None where
      `path` does.
    reference_fields: the fields that hold them, each a text or a list of texts.
    source_field: the field that holds what is summarised; None for `dialogue`, else
      `input`, where there is one.

  Raises:
    UserError: a file, a line or a field is not as described.
  """
  path, own = path.expanduser(), None
  if path.suffix == ".txt":
    if rows_path is None:
      raise errors.UserError(
        f"{path} holds no references: name the rows that do with --references=FILE.jsonl."
      )
    texts = [line.rstrip("\n") for line in _lines(path)]
  else:
    own = _rows(path)  # once: it may be a pipe
    texts = [_text(path, n, row, "prediction") for n, row in own]
  rows = _rows(rows_path.expanduser()) if rows_path else own
  if len(rows) != len(texts):
    raise errors.UserError(
      f"{path} has {len(texts)} predictions, {rows_path} {len(rows)} rows: they must be"
      " the same rows in the same order."
    )
  where = rows_path or path
  references = [_references(where, n, row, reference_fields) for n, row in rows]
  if source_field is None:
    named = [f for f in ("dialogue", "input") if all(f in row for _, row in rows)]
    source_field = named[0] if named else None
  sources = None
  if source_field is not None:
    sources = [_text(where, n, row, source_field) for n, row in rows]
  cut = [row.get("cut") for _, row in own or [(0, {})]]
  at_cap = sum(cut) / len(cut) if all(type(c) is bool for c in cut) else None
  return Predictions(path, texts, references, sources, at_cap)


def check_same_rows(one: Predictions, other: Predictions) -> None:
  """Checks that two files answer the same rows.

  Raises:
    UserError: they do not.
  """
  if len(one.texts) != len(other.texts):
    raise errors.UserError(
      f"{one.path} has {len(one.texts)} rows, {other.path} {len(other.texts)}: only"
      " the same rows can be compared."
    )
  pairs = zip(one.references, other.references, strict=True)
  for number, (ours, theirs) in enumerate(pairs, start=1):
    if ours != theirs:
      raise errors.UserError(
        f"row {number} of {one.path} and of {other.path} have other references: only the"
        " same rows in the same order can be compared."
      )


def _lines(path: pathlib.Path) -> list[str]:
  try:
    packed = path.suffix == ".gz"
    text = (gzip.open(path).read() if packed else path.read_bytes()).decode("utf-8-sig")
  except (EOFError, gzip.BadGzipFile, zlib.error) as e:
    raise errors.UserError(f"{path} is no whole gzip file: {e}. Pack it again.") from e
  except OSError as e:
    raise errors.UserError(f"cannot read {path}: {e.strerror}.") from e
  except UnicodeDecodeError as e:
    raise errors.UserError(f"{path}: byte {e.start} is not UTF-8.") from e
  lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
  if lines == [""]:
    raise errors.UserError(f"{path} is empty.")
  return lines


def _rows(path: pathlib.Path) -> list[tuple[int, dict[str, Any]]]:
  """Returns each row with the number of its line."""
  rows = []
  for number, line in enumerate(_lines(path), start=1):
    try:
      row = json.loads(line)
    except (ValueError, RecursionError) as e:
      raise errors.UserError(f"{path}, line {number}: not JSON: {e}.") from e
    if not isinstance(row, dict):
      raise errors.UserError(f"{path}, line {number}: not a JSON object.")
    rows.append((number, row))
  return rows


def _value(path: pathlib.Path, number: int, row: Mapping[str, Any], field: str) -> Any:
  if field not in row:
    raise errors.UserError(
      f"{path}, line {number}: no field {field!r}.{errors.did_you_mean(field, row)}"
      f" There is: {', '.join(row)}."
    )
  return row[field]


def _text(path: pathlib.Path, number: int, row: Mapping[str, Any], field: str) -> str:
  value = _value(path, number, row, field)
  if not isinstance(value, str):
    raise errors.UserError(
      f"{path}, line {number}: field {field!r} must be a text, not {value!r}."
    )
  return value


def _references(path, number, row, fields: Sequence[str]) -> list[str]:
  found = []
  for field in fields:
    value = _value(path, number, row, field)
    found += value if isinstance(value, list) else [value]
  if not found or not all(isinstance(text, str) and text.strip() for text in found):
    raise errors.UserError(
      f"{path}, line {number}: the references ({', '.join(fields)}) must be texts, at"
      f" least one and none of them empty, not {found!r}."
    )
  return found

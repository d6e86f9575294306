"""The source of a user's own files: their columns become texts, their rows splits.

Stands beside `sources.py`: `user_files.FileTask` says what is wanted, `file_formats.py`
reads the rows.
"""

import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from t5tune.data import file_formats, rows, user_files
from t5tune.data.checked_source import CheckedSource, stamp
from t5tune.errors import UserError, did_you_mean


class FileSource(CheckedSource):
  """Rows of the files of a `user_files.FileTask`.

  A row has the columns that its templates name, as texts, and, where there are further
  references, those of the row as `file_formats.REFERENCES`. A row of which nobody can
  say whether it is of training or of validation, since it is bad, is one of training.
  """

  how_to_skip = " Or leave such rows out: ON_BAD_ROW = 'skip'."

  def __init__(self, task: user_files.FileTask):
    self._task = task
    self._asked = user_files.columns(task.inputs)
    self._told = user_files.columns(task.targets)
    self._optional = user_files.columns(*task.references)
    self._columns = list(dict.fromkeys([*self._asked, *self._told]))
    check = functools.partial(_check_filled, inputs=self._asked, targets=self._told)
    optional = {file_formats.REFERENCES: list[str]} if task.references else {}
    fields = dict.fromkeys(self._columns, str)
    schema = rows.Schema(fields, optional, check, allow_empty=True)
    super().__init__(schema, task.on_bad_row)

  def __str__(self) -> str:
    return f"FileSource({self._task.name})"

  @property
  def splits(self) -> Sequence[str]:
    wanted = {split: self._task.file(split) for split in self._task.SPLITS}
    wanted["validation"] = wanted["validation"] or wanted["train"]
    return tuple(split for split, path in wanted.items() if path)

  def files(self, split: str) -> list[pathlib.Path]:
    if split not in self.splits:
      raise UserError(
        f"Task {self._task.name!r} has no split {split!r}."
        f"{did_you_mean(split, self.splits)} It has {', '.join(self.splits)}; set"
        f" {split.upper()}_FILE."
      )
    self._task.check_files()
    return [self._task.file(split) or self._task.file("train")]

  def _is_shared(self, split: str) -> bool:
    """Whether training and validation rows stand in one file, and this is either."""
    return self._task.validation_file is None and split != "test"

  def _version(self, split: str) -> Any:
    return [stamp(path) for path in self.files(split)]

  def _identity(self, split: str) -> dict[str, Any]:
    (path,) = self.files(split)
    described = {
      "kind": "file",
      "format": file_formats.format_of(path),
      "fields": self._columns,
      "references": self._task.references,
      "files": [self._file_identity(path)],
    }
    if self._is_shared(split):
      described["held_out"] = [split, self._task.validation_share, self._asked]
    return described

  def _raw_rows(self, split: str) -> Iterator[tuple[str, Any]]:
    (path,) = self.files(split)
    shared = self._is_shared(split)
    for where, raw in file_formats.read(path, self._columns, self._optional):
      row = self._texts(where, raw)
      if not shared or self._is_held_out(row) == (split == "validation"):
        yield where, row

  def _texts(self, where: str, raw: Any) -> Any:
    """Returns a row with its columns as texts, or the `BadRow` that it is."""
    if not isinstance(raw, Mapping):
      return raw
    try:
      row = {
        name: file_formats.as_text(where, name, raw[name])
        for name in self._columns
        if name in raw
      }
      if self._task.references:
        row[file_formats.REFERENCES] = self._references(where, raw)
    except rows.BadRow as error:
      return error
    if len(row) < len(self.schema.fields):
      row |= {name: raw[name] for name in raw.keys() - row.keys()}  # for the message
    return row

  def _references(self, where: str, raw: Mapping[str, Any]) -> list[str]:
    """Returns the further references of which a row has all columns."""
    texts = {
      name: file_formats.as_text(where, name, raw[name])
      for name in self._optional
      if raw.get(name) is not None
    }
    return [
      _filled(text, texts)
      for text in self._task.references
      if all(texts.get(name, "").strip() for name in user_files.columns(text))
    ]

  def _is_held_out(self, row: Any) -> bool:
    """Whether a row of a shared file is one of validation.

    Drawn by what the row asks, white space aside: so rows that ask the same stay
    together, and a row stays where it is when others are added.
    """
    if not isinstance(row, Mapping) or not row.keys() >= set(self._asked):
      return False
    asked = {name: " ".join(row[name].split()) for name in self._asked}
    return rows.row_key(asked) < self._task.validation_share * 2**63

  def _no_rows(self, split: str, report: Sequence[str], skipped: int) -> str:
    if skipped or not self._is_shared(split) or self._is_empty(split):
      return super()._no_rows(split, report, skipped)
    return (
      f"{self._describe(split)}: none of its rows falls into the split {split!r}, with"
      f" VALIDATION_SHARE = {self._task.validation_share} of them held out for"
      " validation. Set another share, give a VALIDATION_FILE, or add rows."
    )

  def _is_empty(self, split: str) -> bool:
    (path,) = self.files(split)
    return next(file_formats.read(path, self._columns), None) is None


def _check_filled(
  row: Mapping[str, Any], inputs: Sequence[str], targets: Sequence[str]
) -> None:
  """Raises ValueError on a row whose inputs or targets hold nothing of the row."""
  for names in (inputs, targets):
    if not any(row[name].strip() for name in names):
      listed = " and ".join(repr(name) for name in names)
      what = "field {} is" if len(names) == 1 else "fields {} are all"
      raise ValueError(f"{what.format(listed)} empty. Fill in or remove the row.")


def _filled(text: str, values: Mapping[str, str]) -> str:
  pieces = user_files.pieces(text)
  return "".join(words + (values[name] if name else "") for words, name in pieces)

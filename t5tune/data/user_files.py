"""A user's own files as a task, told in gin: which files, which texts, which metrics.

Stands before the direction of data, beside `run.py`: only settings, checked here.
`TASK_MODULE` makes the SeqIO task of them.
"""

import dataclasses
import pathlib
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from t5tune.data import file_formats
from t5tune.errors import UserError, did_you_mean

# Its `register(task)` makes the SeqIO task: named here, not imported, as a gin file
# names its modules.
TASK_MODULE = "t5tune.tasks.files"
_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}
# Features that the pipeline itself gives a row.
_RESERVED = ("row_key", file_formats.REFERENCES)


@dataclasses.dataclass(frozen=True)
class FileTask:
  r"""Files of one's own as a task; in brackets the macro of `jsonl.gin`.

  Texts may be written as in a shell: `\n` is a newline, `\t` a tab, `\\` a backslash.

  Attributes:
    train_file: JSON Lines, CSV or TSV with a header, each also as `.gz`, or Parquet
      [TRAIN_FILE].
    inputs: the model's input, with the file's columns as `{column}` and a brace as
      `{{` or `}}` [INPUTS].
    targets: the wanted output, in the same form [TARGETS].
    name: the task's name [TASK_NAME].
    validation_file: rows for evaluation during training [VALIDATION_FILE]; None to
      hold some of the training file's out, which are then not trained on.
    test_file: rows for the scores before and after [TEST_FILE]; None for those of
      the validation split.
    validation_share: share of the training file's rows that is held out where there
      is no validation file [VALIDATION_SHARE]. Rows are chosen by a hash of what
      they ask, so rows that ask the same stay together and more rows do not move them.
    metrics: names of metrics, the headline first [METRICS].
    references: further texts that are right too, in the form of `targets`; a row may
      lack their columns [REFERENCES].
    on_bad_row: 'stop' at a row that cannot be used, or 'skip' and count it
      [ON_BAD_ROW].
    cut: where inputs that are too long are cut, as [column, 'end', 'start' or
      'middle']; None for the end of the whole [CUT].
    escape: whether characters that the vocabulary lacks are written in an escaped
      form, as source code needs with T5's [ESCAPE].
    replay: a registered mixture that is mixed in, so that what a model could do is not
      forgotten [REPLAY].
    replay_share: share of the examples that is replayed [REPLAY_SHARE].
  """

  train_file: str
  inputs: str
  targets: str
  name: str = "my_data"
  validation_file: str | None = None
  test_file: str | None = None
  validation_share: float = 0.05
  metrics: Sequence[str] = ("rouge",)
  references: Sequence[str] = ()
  on_bad_row: Literal["stop", "skip"] = "stop"
  cut: Sequence[str] | None = None
  escape: bool = False
  replay: str | None = None
  replay_share: float = 0.25

  SPLITS: ClassVar[tuple[str, ...]] = ("train", "validation", "test")

  def __post_init__(self):
    for name in ("metrics", "references", "cut"):
      # Lists, so that a copy made from JSON is the same.
      if getattr(self, name) is not None:
        object.__setattr__(self, name, list(getattr(self, name)))
    if not re.fullmatch(r"\w+", self.name):
      raise UserError(f"TASK_NAME = {self.name!r}: give letters, digits and '_' only.")
    for split in self.SPLITS:
      if self.file(split) is not None:
        _checked(f"{split.upper()}_FILE", file_formats.format_of, self.file(split))
    for macro, texts in self._texts().items():
      for text in texts:
        _checked(macro, _check_template, text)
    for macro, share in {
      "VALIDATION_SHARE": self.validation_share,
      "REPLAY_SHARE": self.replay_share,
    }.items():
      if not 0 < share < 1:
        raise UserError(
          f"{macro} = {share}: it must be above 0 and below 1, such as 0.1."
        )
    if not self.metrics:
      raise UserError("METRICS is empty: name at least one, such as ['rouge'].")
    if self.on_bad_row not in ("stop", "skip"):
      raise UserError(f"ON_BAD_ROW = {self.on_bad_row!r}: give 'stop' or 'skip'.")

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> "FileTask":
    """Returns the settings that `dataclasses.asdict` gave."""
    return cls(**values)

  def _texts(self) -> dict[str, list[str]]:
    return {
      "INPUTS": [self.inputs],
      "TARGETS": [self.targets],
      "REFERENCES": list(self.references),
    }

  def file(self, split: str) -> pathlib.Path | None:
    """Returns the file given for a split, or None."""
    name = getattr(self, f"{split}_file")
    return None if name is None else pathlib.Path(name).expanduser()

  def check_files(self) -> None:
    """Raises a UserError, with the nearest name, for a file that is not there."""
    for split in self.SPLITS:
      path = self.file(split)
      if path is None or path.is_file():
        continue
      beside = [p.name for p in path.parent.glob("*") if p.is_file()]
      where = path.parent.resolve()
      what = "is a folder" if path.is_dir() else f"is not in {where}"
      raise UserError(
        f"{split.upper()}_FILE = {str(path)!r} {what}.{did_you_mean(path.name, beside)}"
        " Give the path of a file, from where you run t5tune."
      )


def mixture(task: str, replay: str | None) -> str:
  """Returns what a run trains: the task, or its mixture with what is replayed.

  Args:
    task: the task's name.
    replay: the mixture that is replayed, or None.
  """
  return task if replay is None else f"{task}_replay"


def _checked(macro: str, check, value) -> None:
  try:
    check(value)
  except UserError as error:
    raise UserError(f"{macro} = {str(value)!r}: {error}") from error


def unescaped(text: str) -> str:
  r"""Returns a text with `\n`, `\t` and `\\` as the characters they stand for."""
  return re.sub(r"\\[nt\\]", lambda found: _ESCAPES[found[0]], text)


def pieces(text: str) -> list[tuple[str, str | None]]:
  """Returns (literal text, column that follows or None) pairs of a template.

  Args:
    text: the template, as a user wrote it.

  Raises:
    UserError: braces that do not match, or that hold more than a column's name.
  """
  try:
    parsed = list(string.Formatter().parse(unescaped(text)))
  except ValueError as error:
    raise UserError(
      f"{error}. Write columns as {{column}} and a brace as {{{{ or }}}}."
    ) from error
  for _, column, spec, conversion in parsed:
    if column is not None and (not column.isidentifier() or spec or conversion):
      raise UserError(
        f"{{{column}}} is not a column's plain name. Write {{column}}, renaming the"
        " column where its name is not letters, digits and '_'; a brace is {{ or }}."
      )
  return [(literal, column) for literal, column, _, _ in parsed]


def columns(*texts: str) -> list[str]:
  """Returns the columns that templates name, in order."""
  named = [column for text in texts for _, column in pieces(text)]
  return list(dict.fromkeys(column for column in named if column is not None))


def _check_template(text: str) -> None:
  named = columns(text)
  if not named:
    raise UserError(
      "it names no column. Write columns as {column}, such as {dialogue}."
    )
  for column in named:
    if column in _RESERVED:
      raise UserError(f"column {column!r} has a name that t5tune uses: rename it.")

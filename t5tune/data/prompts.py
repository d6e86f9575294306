"""Prompts to answer: a text with one a line, or rows of JSON Lines."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from t5tune import errors
from t5tune.data import definitions, rows

_STDIN = pathlib.Path("/dev/stdin")


@dataclasses.dataclass(frozen=True)
class Prompts:
  """What to answer.

  Attributes:
    texts: the prompts.
    rows: what each was made of, to be written beside its answer.
    escape: whether texts are escaped for the vocabulary (`escape.py`).
  """

  texts: list[str]
  rows: list[dict[str, Any]]
  escape: bool = False


@dataclasses.dataclass(frozen=True)
class TaskPrompt:
  """How a task puts a row to the model: its first template, or one of another name.

  Attributes:
    template: the `templates.Template`.
    escape: whether the task's texts are escaped.
  """

  template: Any
  escape: bool

  @classmethod
  def of(cls, name: str, modules: Sequence[str]) -> "TaskPrompt":
    """Finds the prompt of a registered task; imports tensorflow (through seqio).

    Args:
      name: 'task' or 'task/template'.
      modules: the modules that register tasks.

    Raises:
      UserError: there is no such task or template, or the task has none.
    """
    definitions.import_seqio()
    definitions.load_tasks(modules, None)
    from t5tune.data import templates

    task_name, _, wanted = name.partition("/")
    try:
      ((task, _),) = definitions.get_tasks(task_name)[:1]
    except errors.UserError as e:
      said = str(e).replace(f"MIXTURE = {task_name!r}", f"--task={name}")
      raise errors.UserError(said) from e
    found = templates.of_task(task)
    if task.name != task_name or not found:
      raise errors.UserError(
        f"--task={name}: {task_name!r} is no task with templates of its own."
      )
    named = {template.name: template for template in found}
    if wanted and wanted not in named:
      raise errors.UserError(
        f"--task={name}: {task_name!r} has no template {wanted!r}."
        f"{errors.did_you_mean(wanted, named)} It has: {', '.join(named)}."
      )
    escape = definitions.escapes(task.output_features["inputs"])
    return cls(named[wanted] if wanted else found[0], escape)

  def fill(self, where: str, row: dict[str, Any]) -> str:
    """Returns the prompt of a row.

    Raises:
      UserError: the row lacks a field, or it is no text or number.
    """
    fields = self.template.fields("inputs")
    return self.template.render("inputs", {f: _text(where, row, f) for f in fields})


def read(name: str, kind: str, field: str, task: TaskPrompt | None) -> Prompts:
  """Reads all prompts, so that none is found bad after others were answered.

  Args:
    name: the file, '-' for standard input.
    kind: 'jsonl' or 'text'.
    field: of JSON Lines, the field with the prompt; not read where a task has one.
    task: fills its template with the fields of each row; None to take prompts as they
      are. A text's line is the value of its only field.

  Raises:
    UserError: the file cannot be read; a line is not as described, or empty.
  """
  path = _STDIN if name == "-" else pathlib.Path(name).expanduser()
  texts, kept = [], []
  for where, row in _rows(path, kind, field, task):
    text = task.fill(where, row) if task else _text(where, row, field)
    if not text.strip():
      raise errors.UserError(f"{where}: the prompt is empty. Remove the line.")
    try:
      json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as e:
      raise errors.UserError(f"{where}: half a character (a lone surrogate).") from e
    except ValueError as e:
      raise errors.UserError(
        f"{where}: NaN or Infinity, which JSON does not have."
      ) from e
    texts.append(text)
    kept.append(row)
  if not texts:
    raise errors.UserError(f"{name} holds no prompts.")
  return Prompts(texts, kept, task.escape if task else False)


def _rows(path: pathlib.Path, kind: str, field: str, task: TaskPrompt | None):
  if kind == "jsonl":
    for where, row in rows.read_json_lines(path):
      if isinstance(row, rows.BadRow):
        raise errors.UserError(str(row))
      if not isinstance(row, dict):
        raise errors.UserError(f"{where}: not a JSON object.")
      yield where, row
    return
  if task:
    field, *others = task.template.fields("inputs")
    if others:
      raise errors.UserError(
        f"{task.template.name!r} has several fields ({', '.join([field, *others])}):"
        " give rows of JSON Lines."
      )
  for where, line in rows.read_lines(path):
    if isinstance(line, rows.BadRow):
      raise errors.UserError(str(line))
    try:
      yield where, {field: line.decode().rstrip("\r\n")}
    except UnicodeDecodeError as e:
      raise errors.UserError(f"{where}: not UTF-8 (byte {e.start + 1}).") from e


def _text(where: str, row: dict[str, Any], field: str) -> str:
  if field not in row:
    raise errors.UserError(
      f"{where}: no field {field!r}.{errors.did_you_mean(field, row)} There is:"
      f" {', '.join(row) or 'none'}."
    )
  value = row[field]
  if isinstance(value, bool) or not isinstance(value, str | int | float):
    raise errors.UserError(f"{where}: field {field!r} must be a text, not {value!r}.")
  return str(value)

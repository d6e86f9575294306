"""What runs left behind, read from their work directories."""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from t5tune import errors
from t5tune.evaluation import results

_NUMBER = int | float
_OF_A_ROW = {"input": str, "references": list, "prediction": str}
_OF_A_TASK = {
  **{"task": str, "split": str, "scores": dict, "rows": int},
  **{"loss": _NUMBER, "mean_length": _NUMBER, "at_cap": _NUMBER},
  **{"constant": dict | None, "unigram_loss": _NUMBER | None},
}
_OF_A_MIXTURE = {
  **{"name": str, "rows": int, "share": _NUMBER},
  **{"token_share": _NUMBER, "epochs": _NUMBER},
}


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """The scores of one checkpoint on the test split.

  Attributes:
    step: its step; 0 is before training.
    tasks: task -> summary, as `evaluator.TaskResult.summary` makes it.
    rouge: fingerprint of the ROUGE profile.
    settings: what decided which rows were scored, and how they were decoded.
  """

  step: int
  tasks: dict[str, dict[str, Any]]
  rouge: str
  settings: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Record:
  """What a run left behind.

  Attributes:
    name: what to call it: its folder's name.
    path: its work directory.
    config: its gin configuration, as text.
    mixture: tasks with rows, share, epochs; [] where the run trained nothing.
    evaluations: of the test split, by step; at least one.
    train: metrics of logged steps, each with `step`.
    validation: task -> metrics of its evaluations during training, each with `step`.
  """

  name: str
  path: pathlib.Path
  config: str
  mixture: list[dict[str, Any]]
  evaluations: list[Evaluation]
  train: list[dict[str, Any]]
  validation: dict[str, list[dict[str, Any]]]

  @property
  def trained(self) -> set[str]:
    """The tasks that the run trained on."""
    return {task["name"] for task in self.mixture}

  def predictions(self, task: str, step: int) -> list[dict[str, Any]]:
    """Returns the rows of a task with the answers of a step; [] where there are none.

    Raises:
      UserError: the file is damaged.
    """
    return _predictions(results.predictions_file(self.path, task, "test", step))


def read(paths: Sequence[pathlib.Path]) -> list[Record]:
  """Reads work directories.

  Args:
    paths: the directories, in the order in which they are to be shown.

  Raises:
    UserError: one is no work directory, was not evaluated, or is damaged; or their
      scores come from different ROUGE profiles.
  """
  names = _names(paths)
  records = [_read(path, name) for path, name in zip(paths, names, strict=True)]
  evaluations = [(r, e) for r in records for e in r.evaluations]
  for run, evaluation in evaluations[1:]:
    _check_alike(*evaluations[0], run, evaluation)
  return records


def _check_alike(run: Record, one: Evaluation, other_run: Record, other: Evaluation):
  """Checks that two evaluations were made alike, or their scores say nothing together."""
  settings = [{"ROUGE profile": e.rouge, **e.settings} for e in (one, other)]
  for name, value in settings[0].items():
    # Lengths may follow the run's data; the share of answers cut is told. What tasks
    # there are shows.
    if name not in ("lengths", "mixture") and settings[1].get(name) != value:
      files = [
        results.scores_file(r.path, "test", e.step)
        for r, e in ((run, one), (other_run, other))
      ]
      raise errors.UserError(
        f"{files[0]} was scored with {name} = {value}, {files[1]} with"
        f" {settings[1].get(name)}: a report does not mix them. Score the checkpoints"
        " again with the same settings: python -m t5tune.eval --checkpoint=all."
      )


def _names(paths: Sequence[pathlib.Path]) -> list[str]:
  """Returns the shortest ends of the paths that tell them apart."""
  whole = [path.expanduser().resolve().parts for path in paths]
  for count in range(1, max(map(len, whole), default=1) + 1):
    names = ["/".join(parts[-count:]) for parts in whole]
    if len(set(names)) == len(names):
      return names
  raise errors.UserError("a work directory is named twice.")


def _read(path: pathlib.Path, name: str) -> Record:
  path = path.expanduser()
  if not (path / "run.json").is_file():
    raise errors.UserError(f"{path} is no work directory: it has no run.json.")
  evaluations = [_evaluation(file) for file in (path / "scores").glob("test-*.json")]
  if not evaluations:
    raise errors.UserError(
      f"{path} has no scores yet: train to the end, or score a checkpoint with"
      f" python -m t5tune.eval --workdir={path} --gin_file={path}/config.gin."
    )
  train, validation = [], {}
  for _, line in _lines(path / "metrics.jsonl", growing=True):
    if line.get("kind") == "train":
      train.append(line)
    elif line.get("purpose") == "validation" and "task" in line:
      validation.setdefault(line["task"], []).append(line)
  config = path / "config.gin"
  mixture = path / "mixture.json"
  return Record(
    name=name,
    path=path,
    config=config.read_text(errors="replace") if config.is_file() else "",
    mixture=_mixture(mixture) if mixture.is_file() else [],
    evaluations=sorted(evaluations, key=lambda e: e.step),
    train=train,
    validation=validation,
  )


def _evaluation(file: pathlib.Path) -> Evaluation:
  made = _json(file)
  _require(file, made, {"step": int, "rouge": str, "settings": dict, "tasks": list})
  tasks = {}
  for task in made["tasks"]:
    _require(file, task, _OF_A_TASK)
    for name, value in task["scores"].items():
      if not isinstance(value, int | float) or not math.isfinite(value):
        raise _damaged(file, f"{task['task']}/{name} is {value}")
    if task["scores"]:  # a task without metrics has nothing to show
      tasks[task["task"]] = task
  return Evaluation(made["step"], tasks, made["rouge"], made["settings"])


@functools.cache  # every score of a task asks for its rows
def _predictions(file: pathlib.Path) -> list[dict[str, Any]]:
  rows = []
  for number, row in _lines(file):
    for name, kind in _OF_A_ROW.items():
      if not isinstance(row.get(name), kind):
        raise _damaged(f"{file}, line {number}", f"no {kind.__name__} {name!r}")
    rows.append(row)
  return rows


def _mixture(file: pathlib.Path) -> list[dict[str, Any]]:
  made = _json(file)
  _require(file, made, {"tasks": list})
  for task in made["tasks"]:
    _require(file, task, _OF_A_MIXTURE)
  return made["tasks"]


def _require(file: pathlib.Path, made: Any, kinds: Mapping[str, Any]) -> None:
  if not isinstance(made, dict):
    raise _damaged(file, "not a JSON object where one should be")
  for name, kind in kinds.items():
    if not isinstance(made.get(name), kind):
      raise _damaged(
        file, f"{name!r} is missing or no {getattr(kind, '__name__', kind)}"
      )


def _json(file: pathlib.Path) -> Any:
  try:
    return json.loads(file.read_text())
  except (OSError, ValueError) as e:
    raise _damaged(file, e) from e


def _lines(
  file: pathlib.Path, growing: bool = False
) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields the objects of JSON Lines with their numbers; nothing of an absent file.

  Args:
    file: the file.
    growing: whether its last line may be half-written.
  """
  if not file.is_file():
    return
  lines = file.read_bytes().split(b"\n")
  for number, line in enumerate(lines, start=1):
    is_last = number == len(lines)
    if is_last and (growing or not line):
      return
    try:
      row = json.loads(line.decode())
    except ValueError as e:
      raise _damaged(f"{file}, line {number}", e) from e
    if not isinstance(row, dict):
      raise _damaged(f"{file}, line {number}", "not a JSON object")
    yield number, row


def _damaged(where: Any, what: Any) -> errors.UserError:
  return errors.UserError(
    f"{where} is damaged: {what}. Score the checkpoint again, or remove it."
  )

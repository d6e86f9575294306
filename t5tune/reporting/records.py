"""What runs left behind, read from their work directories."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from t5tune import errors
from t5tune.evaluation import results


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
    """Returns the rows of a task with the answers of a step; [] where there are none."""
    return results.load_predictions(self.path, task, "test", step)


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
  profiles = {
    e.rouge: f"{r.path}/scores/test-{e.step}.json"
    for r in records
    for e in r.evaluations
  }
  if len(profiles) > 1:
    (one, where), (other, there) = list(profiles.items())[:2]
    raise errors.UserError(
      f"{where} was scored by the ROUGE profile {one}, {there} by {other}: a report does"
      " not mix them. Score the checkpoints again: python -m t5tune.eval"
      " --checkpoint=all."
    )
  return records


def _names(paths: Sequence[pathlib.Path]) -> list[str]:
  """Returns the shortest ends of the paths that tell them apart."""
  whole = [path.expanduser().absolute().parts for path in paths]
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
  for line in _lines(path / "metrics.jsonl"):
    if line.get("kind") == "train":
      train.append(line)
    elif line.get("purpose") == "validation":
      validation.setdefault(line["task"], []).append(line)
  config = path / "config.gin"
  mixture = path / "mixture.json"
  return Record(
    name=name,
    path=path,
    config=config.read_text() if config.is_file() else "",
    mixture=_json(mixture).get("tasks", []) if mixture.is_file() else [],
    evaluations=sorted(evaluations, key=lambda e: e.step),
    train=train,
    validation=validation,
  )


def _evaluation(file: pathlib.Path) -> Evaluation:
  made = _json(file)
  try:
    tasks = {task["task"]: task for task in made["tasks"]}
    return Evaluation(made["step"], tasks, made["rouge"], made["settings"])
  except (KeyError, TypeError) as e:
    raise _damaged(file, f"{e} is missing") from e


def _json(file: pathlib.Path) -> Mapping[str, Any]:
  try:
    return json.loads(file.read_text())
  except (OSError, ValueError) as e:
    raise _damaged(file, e) from e


def _lines(file: pathlib.Path) -> list[dict[str, Any]]:
  if not file.is_file():
    return []
  made = []
  for number, line in enumerate(file.read_text().splitlines(), start=1):
    try:
      made.append(json.loads(line))
    except ValueError as e:
      raise _damaged(f"{file}, line {number}", e) from e
  return made


def _damaged(where: Any, what: Any) -> errors.UserError:
  return errors.UserError(
    f"{where} is damaged: {what}. Score the checkpoint again, or remove it."
  )

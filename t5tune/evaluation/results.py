"""Evaluations on disk: scores and predictions in the work directory."""

import json
import pathlib
from collections.abc import Sequence

from t5tune.evaluation import evaluator, rouge
from t5tune.training import workdir


def scores_file(directory: pathlib.Path, purpose: str, step: int) -> pathlib.Path:
  """Returns where the scores of an evaluation lie.

  Args:
    directory: the work directory.
    purpose: 'test' (before and after training, and of saved checkpoints) or
      'validation' (during training), whatever splits these read.
    step: the step that was evaluated.
  """
  return directory / "scores" / f"{purpose}-{step}.json"


def predictions_file(
  directory: pathlib.Path, task: str, purpose: str, step: int
) -> pathlib.Path:
  """Returns where the predictions for a task lie; see `scores_file`."""
  return directory / "predictions" / f"{task}-{purpose}-{step}.jsonl"


def save(
  directory: pathlib.Path,
  step: int,
  purpose: str,
  results: Sequence[evaluator.TaskResult],
  settings: dict,
) -> None:
  """Writes the scores and every task's predictions.

  Args:
    directory: the work directory.
    step: the step that was evaluated.
    purpose: see `scores_file`.
    results: the evaluation.
    settings: what decided which rows were scored, as JSON values.
  """
  for result in results:
    lines = (json.dumps(_line(row), ensure_ascii=False) for row in result.rows)
    workdir.write_atomically(
      predictions_file(directory, result.task, purpose, step),
      "".join(line + "\n" for line in lines),
    )
  file = scores_file(directory, purpose, step)
  tasks = [result.summary() for result in results]
  if file.is_file() and json.loads(file.read_text())["settings"] == settings:
    # A machine without the training rows cannot tell these anew.
    before = load_scores(directory, purpose, step)
    for task in tasks:
      for name in ("constant", "constant_answer", "unigram_loss"):
        if task[name] is None:
          task[name] = before.get(task["task"], {}).get(name)
  scores = {
    "step": step,
    "settings": settings,
    "rouge": rouge.DEFAULT.fingerprint,
    "tasks": tasks,
  }
  workdir.write_atomically(file, json.dumps(scores, indent=1) + "\n")


def adopt(source: pathlib.Path, step: int, directory: pathlib.Path) -> None:
  """Takes the test scores of a checkpoint as those before the run that starts from it.

  Args:
    source: the work directory of the checkpoint.
    step: its step.
    directory: the work directory of the run.
  """
  kept = json.loads(scores_file(source, "test", step).read_text())
  for task in kept["tasks"]:
    file = predictions_file(source, task["task"], "test", step)
    workdir.write_atomically(
      predictions_file(directory, task["task"], "test", 0), file.read_bytes()
    )
  text = json.dumps({**kept, "step": 0}, indent=1) + "\n"
  workdir.write_atomically(scores_file(directory, "test", 0), text)


def _line(row: dict) -> dict:
  first = {
    "input": row["inputs_pretokenized"],
    "template": row.get("template"),
    "references": row["references"],
    "prediction": row["prediction"],
    "scores": row.get("scores"),
  }
  left = {k: v for k, v in row.items() if k not in first}
  del left["inputs_pretokenized"]
  return {**first, **left}


def load_scores(directory: pathlib.Path, purpose: str, step: int) -> dict[str, dict]:
  """Returns task -> summary of a saved evaluation, or {} if there is none."""
  file = scores_file(directory, purpose, step)
  if not file.is_file():
    return {}
  return {t["task"]: t for t in json.loads(file.read_text())["tasks"]}


def after_and_before(
  directory: pathlib.Path, step: int
) -> tuple[dict[str, dict], dict[str, dict]]:
  """Returns the test scores of a step, and those before training where comparable.

  Args:
    directory: the work directory.
    step: the step.

  Returns:
    Task -> summary of both. The second is {} where there are no scores at step 0, or
    they were made under another ROUGE profile: a table never mixes two.
  """
  after = load_scores(directory, "test", step)
  files = [scores_file(directory, "test", s) for s in (0, step)]
  if not step or not all(file.is_file() for file in files):
    return after, {}
  profiles = {json.loads(file.read_text())["rouge"] for file in files}
  return after, load_scores(directory, "test", 0) if len(profiles) == 1 else {}


def load_predictions(
  directory: pathlib.Path, task: str, purpose: str, step: int
) -> list[dict]:
  """Returns the lines of a predictions file, or [] if there is none."""
  file = predictions_file(directory, task, purpose, step)
  if not file.is_file():
    return []
  with file.open(encoding="utf-8", newline="\n") as lines:
    return [json.loads(line) for line in lines]

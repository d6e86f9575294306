"""Work directories of runs that were never made, with scores that are easy to check."""

import json
import pathlib

import numpy as np

from t5tune.evaluation import evaluator, results

TASKS = {"chat": "rouge1", "stars": "mean_absolute_error", "code": "bleu"}
ROWS = 40


def result(task: str, score: float, seed: int) -> evaluator.TaskResult:
  """Returns an evaluation whose rows score around `score`; BLEU is not their mean."""
  metric = TASKS[task]
  rng = np.random.default_rng(seed)
  drawn = rng.normal(score, 3, ROWS)
  drawn += score - drawn.mean()
  rows = [
    {
      "inputs_pretokenized": f"{task} input {i} <b>",
      "targets_pretokenized": f"Ana packs {i} boxes.",
      "references": [f"Ana packs {i} boxes.", "She packs."],
      "prediction": f"Ana sells {i} boxes & {'cats' if seed else 'dogs'}.",
      "scores": {metric: float(value)},
    }
    for i, value in enumerate(drawn)
  ]
  return evaluator.TaskResult(
    task=task,
    split="test",
    scores={metric: score * (1.2 if metric == "bleu" else 1), "extra": 1.0},
    loss=2.0,
    shuffled_loss=None,
    unigram_loss=None,
    constant={metric: 4.0},
    constant_answer="Ana packs.",
    shuffled=None,
    mean_length=7.5,
    decode_length=64,
    at_cap=0.05 if task == "code" else 0.0,
    rows=rows,
  )


def write(
  folder: pathlib.Path, scores: dict[int, dict[str, float]], trained: list[str]
) -> pathlib.Path:
  """Writes a work directory.

  Args:
    folder: the directory.
    scores: step -> task -> headline score.
    trained: the tasks of its mixture.
  """
  folder.mkdir(parents=True)
  (folder / "run.json").write_text("{}")
  (folder / "config.gin").write_text("MIXTURE = '<chat>'\n")
  for step, of_tasks in scores.items():
    made = [result(task, score, seed=step) for task, score in of_tasks.items()]
    results.save(folder, step, "test", made, {"examples": None})
  task = {"rows": 1200, "share": 0.5, "token_share": 0.4, "epochs": 2.5}
  mixture = {"tasks": [{"name": name, **task} for name in trained]}
  (folder / "mixture.json").write_text(json.dumps(mixture))
  lines = [
    {"step": s, "kind": "train", "loss": 5 / s, "learning_rate": 1e-3 * s}
    for s in range(1, 6)
  ]
  about = {"kind": "eval", "purpose": "validation", "split": "validation"}
  lines += [
    {"step": s, **about, "task": name, TASKS[name]: 3.0 * s, "loss": 4 / s}
    for s in (2, 4)
    for name in trained
  ]
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (folder / "metrics.jsonl").write_text(text)
  return folder


def multitask(folder: pathlib.Path) -> pathlib.Path:
  """Writes a run on all tasks."""
  before = {"chat": 10.0, "stars": 2.0, "code": 5.0}
  after = {"chat": 30.0, "stars": 1.0, "code": 25.0}
  return write(folder, {0: before, 5: after}, list(TASKS))


def domain(folder: pathlib.Path) -> pathlib.Path:
  """Writes a run on `chat` alone that goes on from `multitask`."""
  before = {"chat": 30.0, "stars": 1.0, "code": 25.0}
  after = {"chat": 47.2, "stars": 1.5, "code": 24.7}
  return write(folder, {0: before, 9: after}, ["chat"])


def rescored(folder: pathlib.Path, step: int, **changed) -> None:
  """Changes fields of a file of scores."""
  file = results.scores_file(folder, "test", step)
  file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))

"""Evaluations on disk and on the screen."""

import json
import pathlib
from collections.abc import Sequence

from rich import markup
from rich.console import Console
from rich.table import Table

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


def score_test(
  evaluate: evaluator.Evaluator, params, step: int, run, directory, progress, log=None
) -> None:
  """Evaluates fully on the test split, and saves scores and predictions.

  Args:
    evaluate: the evaluator.
    params: the model's parameters.
    step: the step they belong to.
    run: the settings (`t5tune.run.Run`).
    directory: the work directory.
    progress: a `run_log.Progress`.
    log: a `run_log.RunLog` that gets the scores, or None.
  """
  with progress.evaluation():
    scored = evaluate.evaluate(
      params,
      run.test_split,
      run.eval_split,
      run.test_examples,
      full=True,
      progress=progress.evaluating,
    )
  save(directory, step, "test", scored, _test_settings(run))
  if log:
    _log(log, step, "test", scored)
    if run.eval_steps > 0:
      evaluator.chosen_score(scored, run.best_metric)  # or it would fail in hours


def is_scored(directory: pathlib.Path, step: int, run) -> bool:
  """Returns whether `score_test` has scored a step with these settings."""
  file = scores_file(directory, "test", step)
  return file.is_file() and json.loads(file.read_text())["settings"] == _test_settings(
    run
  )


def _test_settings(run) -> dict:
  return {
    "splits": [run.test_split, run.eval_split],
    "examples": run.test_examples,
    "lengths": [run.input_length, run.target_length],
  }


def score_validation(
  evaluate: evaluator.Evaluator, params, step: int, run, directory, progress, log
) -> float:
  """Evaluates on the validation split; returns the score that ranks checkpoints.

  Args:
    evaluate: the evaluator.
    params: the model's parameters.
    step: the step they belong to.
    run: the settings (`t5tune.run.Run`).
    directory: the work directory.
    progress: a `run_log.Progress`.
    log: a `run_log.RunLog` that gets the scores.
  """
  with progress.evaluation():
    scored = evaluate.evaluate(
      params, run.eval_split, None, run.eval_examples, progress=progress.evaluating
    )
  save(directory, step, "validation", scored, {"examples": run.eval_examples})
  _log(log, step, "validation", scored)
  return evaluator.chosen_score(scored, run.best_metric)


def _log(log, step: int, purpose: str, scored: Sequence[evaluator.TaskResult]) -> None:
  for result in scored:
    values = {**result.scores, "loss": result.loss, "mean_length": result.mean_length}
    labels = {"purpose": purpose, "split": result.split, "task": result.task}
    log.write(step, "eval", values, labels)


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
    "rouge": rouge.FINGERPRINT,
    "tasks": tasks,
  }
  workdir.write_atomically(file, json.dumps(scores, indent=1) + "\n")


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


def print_scores(
  console: Console,
  title: str,
  after: dict[str, dict],
  before: dict[str, dict] | None = None,
) -> None:
  """Prints a table of every task's scores, beside its baselines.

  Args:
    console: where to print.
    title: the table's title.
    after: task -> summary.
    before: the same for the initial weights, if they were scored.
  """
  table = Table(title=title, title_justify="left")
  numbers = ["constant", "shuffled", "after"]
  if before:
    numbers.insert(2, "before")
  for name in ("task", "split", "metric"):
    table.add_column(name)
  for name in ("rows", *numbers, "mean tokens", "at cap"):
    table.add_column(name, justify="right")
  for task, summary in after.items():
    first = True
    for metric, value in summary["scores"].items():
      scores = {
        "constant": (summary["constant"] or {}).get(metric),
        "shuffled": (summary["shuffled"] or {}).get(metric),
        "before": (before or {}).get(task, {}).get("scores", {}).get(metric),
        "after": value,
      }
      label = [task, summary["split"]] if first else ["", ""]
      lengths = [f"{summary['mean_length']:.1f}", f"{summary['at_cap']:.1%}"]
      table.add_row(
        *label,
        f"[bold]{metric}[/bold]" if first else metric,
        str(summary["rows"]) if first else "",
        *(_number(scores[n]) for n in numbers),
        *(lengths if first else ["", ""]),
        end_section=metric == list(summary["scores"])[-1],
      )
      first = False
  console.print(table)
  if any(name.startswith("rouge") for s in after.values() for name in s["scores"]):
    console.print(f"ROUGE profile: {rouge.FINGERPRINT}", highlight=False)
  capped = [task for task, s in after.items() if s["at_cap"] > 0.02]
  if capped:
    console.print(
      f"More than 2 % of the outputs were cut at TARGET_LENGTH: {', '.join(capped)}",
      highlight=False,
    )


def print_losses(
  console: Console, after: dict[str, dict], before: dict[str, dict] | None = None
) -> None:
  """Prints a table of every task's loss beside that of a unigram model.

  Args:
    console: where to print.
    after: task -> summary.
    before: the same for the initial weights, if they were scored.
  """
  table = Table(title="Loss of a target token, in nats", title_justify="left")
  table.add_column("task")
  columns = ("unigram", "before", "after", "after, inputs shuffled")
  for name in columns:
    table.add_column(name, justify="right")
  for task, summary in after.items():
    table.add_row(
      task,
      _number(summary["unigram_loss"]),
      _number((before or {}).get(task, {}).get("loss")),
      _number(summary["loss"]),
      _number(summary["shuffled_loss"]),
    )
  console.print(table)


def print_examples(
  console: Console,
  directory: pathlib.Path,
  task: str,
  step: int,
  count: int = 3,
) -> None:
  """Prints a few inputs with the human answer and those before and after.

  Args:
    console: where to print.
    directory: the work directory.
    task: the task's name.
    step: the step of the predictions after training; before is step 0.
    count: how many examples, spread evenly over the rows.
  """
  after = _read(predictions_file(directory, task, "test", step))
  before = _read(predictions_file(directory, task, "test", 0)) if step else []
  count = min(count, len(after))
  for k in range(count):
    row = after[k * len(after) // count]
    old = {r["input"]: r["prediction"] for r in before}.get(row["input"])
    text = row.get("dialogue") or row["input"]
    console.print(f"\n[bold]{task}, example {k + 1}[/bold]")
    console.print(markup.escape(text.strip()), highlight=False)
    answers = {"human": row["targets_pretokenized"], "before": old}
    for name, answer in {**answers, "after": row["prediction"]}.items():
      if answer is not None:
        line = f"  [bold]{name:>6}[/bold]  {markup.escape(answer) or '(empty)'}"
        console.print(line, highlight=False, soft_wrap=True)


def _read(file: pathlib.Path) -> list[dict]:
  if not file.is_file():
    return []
  with file.open(encoding="utf-8", newline="\n") as lines:
    return [json.loads(line) for line in lines]


def _number(value: float | None) -> str:
  return "–" if value is None else f"{value:.2f}"

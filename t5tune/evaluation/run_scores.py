"""The evaluations of a run: made, kept in its work directory, and logged."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from t5tune import processes
from t5tune.evaluation import evaluator, results
from t5tune.training import interrupt, run_log


class RunScores:
  """Scores the parameters of a run for one of its purposes; see `results`."""

  def __init__(
    self,
    evaluate: evaluator.Evaluator,
    run: Any,
    directory: pathlib.Path,
    progress: run_log.Progress,
    log: run_log.RunLog | None = None,
    stopping: Callable[[], bool] = lambda: False,
  ):
    """Scores a run, or with no log its saved checkpoints.

    Args:
      evaluate: the evaluator.
      run: the settings (`t5tune.run.Run`).
      directory: the work directory.
      progress: shows how far an evaluation is.
      log: gets the scores, or None.
      stopping: whether the user wants to stop.
    """
    self._evaluate, self._run, self._directory = evaluate, run, directory
    self._progress, self._log, self._stopping = progress, log, stopping

  def test(self, params: Any, step: int) -> None:
    """Scores the test split fully: before and after training, or a checkpoint.

    Args:
      params: the model's parameters.
      step: the step they belong to.

    Raises:
      Stopped: the user wants to stop.
    """
    run = self._run
    with self._progress.evaluation():
      scored = self._evaluate.evaluate(
        params,
        run.test_split,
        run.eval_split,
        run.test_examples,
        full=True,
        progress=self._evaluating,
      )
    self._keep(step, "test", scored, scoring_settings(run))

  def validation(self, params: Any, step: int) -> float:
    """Scores the validation split; returns the score that ranks checkpoints.

    Args:
      params: the model's parameters.
      step: the step they belong to.

    Raises:
      Stopped: the user wants to stop.
    """
    run = self._run
    with self._progress.evaluation():
      scored = self._evaluate.evaluate(
        params, run.eval_split, None, run.eval_examples, self._evaluating
      )
    self._keep(step, "validation", scored, {"examples": run.eval_examples})
    return processes.from_primary("score", lambda: run.chosen_by.score(scored))

  def _evaluating(self, task: str, done: int, total: int, overall: float) -> None:
    self._progress.evaluating(task, done, total, overall)
    if self._stopping():
      raise interrupt.Stopped

  def _keep(
    self, step: int, purpose: str, scored: Sequence[evaluator.TaskResult], settings
  ) -> None:
    if processes.is_primary():
      self._write(step, purpose, scored, settings)
    processes.wait_for_all("scores are kept")

  def _write(
    self, step: int, purpose: str, scored: Sequence[evaluator.TaskResult], settings
  ) -> None:
    for result in scored if self._log else ():
      values = {**result.scores, "loss": result.loss, "mean_length": result.mean_length}
      labels = {"purpose": purpose, "split": result.split, "task": result.task}
      self._log.write(step, "eval", values, labels)
    # Last: by this file the next start knows that the evaluation was finished.
    results.save(self._directory, step, purpose, scored, settings)


def is_tested(run: Any, directory: pathlib.Path, step: int) -> bool:
  """Returns whether `RunScores.test` has scored a step with these settings.

  Args:
    run: the settings (`t5tune.run.Run`).
    directory: the work directory.
    step: the step.
  """
  file = results.scores_file(directory, "test", step)
  if not file.is_file():
    return False
  return json.loads(file.read_text())["settings"] == scoring_settings(run)


def scoring_settings(run: Any) -> dict[str, Any]:
  """Returns what decides which rows `RunScores.test` scores, and how, as JSON values.

  Args:
    run: the settings (`t5tune.run.Run`).
  """
  return {
    "mixture": run.eval_mixture or run.mixture,
    "splits": [run.test_split, run.eval_split],
    "examples": run.test_examples,
    "lengths": [run.input_length, run.target_length],
    "beam": dataclasses.asdict(run.beam),
    "template": run.eval_template,
  }

"""The evaluations of a run: made, kept in its work directory, and logged."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from t5tune.evaluation import evaluator, results
from t5tune.training import run_log


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
      KeyboardInterrupt: the user wants to stop. Nothing is lost by that: the
        parameters are those before the first step, or saved.
    """
    run = self._run

    def evaluating(*state):
      self._progress.evaluating(*state)
      if self._stopping():
        raise KeyboardInterrupt

    with self._progress.evaluation():
      scored = self._evaluate.evaluate(
        params,
        run.test_split,
        run.eval_split,
        run.test_examples,
        full=True,
        progress=evaluating,
      )
    self._keep(step, "test", scored, self._test_settings())

  def is_tested(self, step: int) -> bool:
    """Returns whether `test` has scored a step with these settings."""
    file = results.scores_file(self._directory, "test", step)
    if not file.is_file():
      return False
    return json.loads(file.read_text())["settings"] == self._test_settings()

  def validation(self, params: Any, step: int) -> float:
    """Scores the validation split; returns the score that ranks checkpoints.

    Args:
      params: the model's parameters.
      step: the step they belong to.
    """
    run = self._run
    with self._progress.evaluation():
      scored = self._evaluate.evaluate(
        params, run.eval_split, None, run.eval_examples, self._progress.evaluating
      )
    self._keep(step, "validation", scored, {"examples": run.eval_examples})
    return run.chosen_by.score(scored)

  def _test_settings(self) -> dict[str, Any]:
    return {
      "splits": [self._run.test_split, self._run.eval_split],
      "examples": self._run.test_examples,
      "lengths": [self._run.input_length, self._run.target_length],
      "beam": dataclasses.asdict(self._run.beam),
      "template": self._run.eval_template,
    }

  def _keep(
    self, step: int, purpose: str, scored: Sequence[evaluator.TaskResult], settings
  ) -> None:
    results.save(self._directory, step, purpose, scored, settings)
    for result in scored if self._log else ():
      values = {**result.scores, "loss": result.loss, "mean_length": result.mean_length}
      labels = {"purpose": purpose, "split": result.split, "task": result.task}
      self._log.write(step, "eval", values, labels)

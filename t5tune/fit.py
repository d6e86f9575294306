"""The loop of a training, from its latest checkpoint to its end or a signal.

    restore → [ batch → update → evaluation → checkpoint ] → test scores

What one update does is `training/train_step.py`; what stands ready before the loop is
`job.py`.
"""

import dataclasses
import pathlib
import time
from typing import Any

import jax
from rich.console import Console

from t5tune import errors, job_text, partitioning, processes
from t5tune import job as jobs
from t5tune.evaluation import run_scores
from t5tune.training import (
  checkpoints,
  guard,
  interrupt,
  run_log,
  train_state,
  workdir,
)
from t5tune.weights import adapters, pretrained


class Fit:
  """A training between its start, the first or a later one, and its end."""

  def __init__(
    self,
    console: Console,
    job: jobs.Job,
    evaluate: Any,
    directory: pathlib.Path,
    stop: interrupt.Interrupt,
  ):
    """Restores the latest checkpoint; without one, the weights of INIT.

    Args:
      console: shows progress.
      job: the training.
      evaluate: scores weights on a split, `job.evaluator()`.
      directory: the work directory.
      stop: hears SIGINT and SIGTERM.

    Raises:
      UserError: the work directory holds checkpoints, but none that is whole.
    """
    self._job, self._run, self._directory = job, job.run, directory
    self._console, self._stop = console, stop
    run, primary = job.run, processes.is_primary()
    self._saved = checkpoints.Checkpoints(
      directory / "checkpoints", run.keep_checkpoints
    )
    self._state, meta, self._base = self._restored()
    self._first_step, self._due = int(self._state.step), meta.get("due")
    self._batches, self._best = job.data.batches(), run.first_best
    if meta:
      self._batches.set_state(meta["feed"])
      self._best = self._best.restored(meta["best"])
    if primary:
      feed = dataclasses.asdict(job.feed_config)
      made = {"mixture": job.mixture.to_json(), "feed": feed}
      workdir.keep_data(directory, self._first_step, made)
      workdir.drop_scores(directory, self._first_step)
    self._progress = run_log.Progress(console, self._first_step, job.train_steps)
    again = ["validation"] if self._due else []
    again += [] if self._is_tested(self._first_step) else ["test"]
    begun = (directory, self._first_step, again)
    self._log = run_log.RunLog(*begun) if primary else run_log.NoLog()
    self._guard = guard.Guard(
      run.guard,
      directory,
      self._log,
      self._tell,
      job.tokenizer.decode,
      meta.get("guard"),
    )
    self._agreement = processes.Agreement(lambda: stop.requested)
    self._score = run_scores.RunScores(
      evaluate, run, directory, self._progress, self._log, self._agreement.reached
    )
    self._target_tokens = []

  def to_the_end(self) -> tuple[int, Any]:
    """Trains.

    Returns:
      The step it came to, and the best evaluation, a `checkpoint_choice.Best`.

    Raises:
      Stopped: a signal came, to any of the processes; everything is saved.
      UserError: the training went bad (`guard`), or a disk is full.
    """
    with self._progress:
      self._evaluate_first()
      step, stopping = self._first_step, False
      while not (self._is_over(step) or stopping):
        step += 1
        stopping = self._step(step)
      self._batches.close()
      self._saved.close()
      if stopping:
        self._tell(f"Stopped at step {step}.")
        raise interrupt.Stopped
      self._stop.release()  # raises Stopped where a signal came meanwhile
      if not self._is_tested(step):
        self._score.test(train_state.evaluated_params(self._state), step)
    self._log.close()
    return step, self._best

  def _evaluate_first(self) -> None:
    """Makes the evaluations that come before the first step of this start."""
    params = train_state.evaluated_params(self._state)
    if self._first_step == 0 and self._run.eval_before:
      self._score.test(params, 0)
    if self._due:  # it was broken off; if it is again, the checkpoint still says so
      value = self._score.validation(params, self._first_step)
      self._best = self._best.after(value, self._first_step)
      self._due = None
      self._save()

  def _step(self, step: int) -> bool:
    """Makes one update and what is due after it; returns whether to stop."""
    run, job = self._run, self._job
    batch = self._next_batch()
    self._state, metrics = job.step.update(self._state, batch, job.dropout_key)
    self._stop.hold()  # from here on a signal waits for a save
    self._guard.watch(step, batch, metrics)  # looks at the step before: two in flight
    self._target_tokens.append(metrics["target_tokens"])
    logged = _every(run.log_steps, step) or step in (1, job.train_steps)
    if logged or step == self._first_step + 1:
      self._show(step, metrics, logged)
    self._due = None
    if _every(run.eval_steps, step):
      self._evaluate(step)
    stopping = self._agreement.reached()  # asked once a step, by every process
    due = _every(run.checkpoint_steps, step) or self._best.step == step
    if due or self._is_over(step) or stopping:
      self._save()
    return stopping

  def _evaluate(self, step: int) -> None:
    """Scores the weights after this step's update on the validation split."""
    self._guard.settle()
    params = train_state.evaluated_params(self._state)
    try:
      self._best = self._best.after(self._score.validation(params, step), step)
    except interrupt.Stopped:
      self._due = "validation"  # the next start begins with it

  def _is_over(self, step: int) -> bool:
    return step >= self._job.train_steps or self._best.ended(self._run.early_stopping)

  def _save(self) -> None:
    self._guard.settle()
    kept = {
      **{"feed": self._batches.get_state(), "best": dataclasses.asdict(self._best)},
      **{"guard": self._guard.state(), "due": self._due, **self._base},
    }
    self._saved.save(train_state.saved_part(self._state, self._job.model), kept)

  def _next_batch(self) -> dict[str, Any]:
    """Takes this process's rows of the next batch and lays them on the mesh."""
    began = time.monotonic()
    batch = next(self._batches)
    self._progress.waited(time.monotonic() - began)
    rows = (self._job.data.rows, self._run.batch_size)
    return partitioning.put_batch(self._job.mesh, batch, *rows)

  def _show(self, step: int, metrics, logged: bool) -> None:
    """Shows the metrics of a step; logs them and where the feed stands after it.

    Of the first step after a restart they are shown alone: no other run would log them.
    """
    values = {k: v for k, v in metrics.items() if k != "grad_squares"}
    values = {k: float(v) for k, v in jax.device_get(values).items()}
    since = float(sum(jax.device_get(self._target_tokens)))
    self._target_tokens.clear()
    shown = self._progress.line(step, values["loss"], since)
    if logged:
      position = {"feed": self._batches.get_state()}
      self._log.write(step, "train", values | shown, details=position)

  def _is_tested(self, step: int) -> bool:
    return processes.from_primary(
      "tested", lambda: run_scores.is_tested(self._run, self._directory, step)
    )

  def _tell(self, line: str) -> None:
    job_text.print_lines(self._console, [line])

  def _restored(self) -> tuple[train_state.TrainState, dict, dict]:
    """Returns the state to start from: a checkpoint's, else of INIT, else random.

    Returns:
      The state; what its checkpoint kept beside it; and, where checkpoints hold LoRA's
      factors alone, what they say of the base.
    """
    job, run = self._job, self._run
    model, mesh = job.model, job.mesh
    base, described = None, {}
    if model.has_lora:
      base = pretrained.base_params(job.source, model, mesh, run.seed)
      described = {"base": adapters.describe_base(run.init, run.seed, base)}
    wanted = train_state.saved_part(job.step.state, model)
    restored = self._saved.restore_latest(wanted, self._tell)
    if restored is not None:
      state, meta = restored
      self._tell(f"Continuing from step {int(state.step)}")
      if base is not None:
        adapters.check_base(self._directory, meta["base"], described["base"])
        state = train_state.with_base(state, base)
      return state, meta, described
    if base is not None:
      params = pretrained.with_fresh_factors(base, model, mesh, run.seed)
    elif job.source is not None:
      params = pretrained.params(job.source, model, mesh)
    elif run.init == pretrained.SCRATCH:
      params = None
    else:  # never random weights in place of others
      raise errors.UserError(f"{self._directory}/checkpoints has no whole checkpoint.")
    state = train_state.create(model, job.optimizer, mesh, run.seed, params)
    return state, {}, described


def _every(period: int, step: int) -> bool:
  """Returns whether something done every `period` steps (0: never) is due."""
  return period > 0 and step % period == 0

"""Guards the training: skipped steps, loss spikes, and when to give up.

Reads what `train_step` measured. A step whose loss or gradients are not finite changed
nothing; here its batch is kept, and said which parameters went bad. A step whose update
is not finite has spoilt the parameters: the run ends before they are saved.
"""

import dataclasses
import io
import math
import pathlib
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from t5tune import errors
from t5tune.training import workdir

_LEAST_LOSSES = 20  # before these the loss falls too fast to call anything usual
_MOST_NAMED = 6
_NORMAL = 1.4826  # standard deviations of normal values to their median deviation
_FLOOR = 0.02  # least deviation that counts, as a share of the usual loss
_IN_WORDS = {"skipped": "was skipped", "spoilt": "spoilt the weights"}


@dataclasses.dataclass(frozen=True)
class GuardConfig:
  """When to warn and when to stop.

  Attributes:
    max_bad_steps: skipped steps in a row that end the run.
    spike_deviations: a loss this many standard deviations above the median of the
      latest ones is a spike. The deviation is estimated from the median absolute one.
    spike_window: how many losses count as the latest.
  """

  max_bad_steps: int = 5
  spike_deviations: float = 8.0
  spike_window: int = 100

  def __post_init__(self):
    for name, least in (("max_bad_steps", 1), ("spike_window", _LEAST_LOSSES)):
      if getattr(self, name) < least:
        raise errors.UserError(
          f"guard.GuardConfig.{name} = {getattr(self, name)}: it must be at least"
          f" {least}."
        )
    if not self.spike_deviations > 0:
      raise errors.UserError(
        f"guard.GuardConfig.spike_deviations = {self.spike_deviations}: it must be"
        " above 0."
      )


class Guard:
  """Looks at every step, always at the one before, so that no device waits."""

  def __init__(
    self,
    config: GuardConfig,
    directory: pathlib.Path,
    log: Any,
    tell: Callable[[str], None],
    decode: Callable[[np.ndarray], str],
    state: Mapping[str, Any] | None = None,
  ):
    """Begins to watch, or goes on where a checkpoint was saved.

    Args:
      config: when to warn and when to stop.
      directory: the work directory.
      log: gets a record of every skipped step and spike (`run_log.RunLog`).
      tell: gets a line about each.
      decode: token ids -> text.
      state: what `state` returned at a checkpoint; None at the start.
    """
    self._config, self._directory = config, directory
    self._log, self._tell, self._decode = log, tell, decode
    state = state or {"bad_in_a_row": 0, "losses": [], "spiking": False}
    self._bad_in_a_row, self._spiking = state["bad_in_a_row"], state["spiking"]
    self._losses = list(state["losses"])
    self._before: tuple[int, Mapping[str, Any], Mapping[str, Any]] | None = None

  def watch(self, step: int, batch: Mapping[str, Any], metrics: Mapping[str, Any]):
    """Looks at the step before this one, and keeps this one to look at.

    Args:
      step: the update.
      batch: what it was made from.
      metrics: what `train_step` returned.

    Raises:
      UserError: too many steps in a row were skipped, or an update was not finite.
    """
    self.settle()
    self._before = (step, batch, metrics)

  def settle(self) -> None:
    """Looks at what is left; called before anything is saved or evaluated.

    Raises:
      UserError: too many steps in a row were skipped, or an update was not finite.
    """
    if self._before is None:
      return
    (step, batch, metrics), self._before = self._before, None
    looked_at = [metrics[name] for name in ("finite", "update_norm", "loss")]
    finite, update_norm, loss = jax.device_get(looked_at)
    if not finite:
      self._skipped(step, batch, jax.device_get(metrics))
    elif not math.isfinite(update_norm):
      self._spoilt(step, batch, jax.device_get(metrics))
    else:
      self._bad_in_a_row = 0
      self._look_for_spike(step, float(loss))

  def state(self) -> dict[str, Any]:
    """Returns what `Guard` goes on with, as JSON values; call `settle` before."""
    return {
      "bad_in_a_row": self._bad_in_a_row,
      "losses": self._losses,
      "spiking": self._spiking,
    }

  def _look_for_spike(self, step: int, loss: float) -> None:
    before, config = self._losses, self._config
    self._losses = [*before, loss][-config.spike_window :]
    if len(before) < _LEAST_LOSSES:
      return
    usual = statistics.median(before)
    deviation = _NORMAL * statistics.median(abs(x - usual) for x in before)
    deviation = max(deviation, _FLOOR * abs(usual))
    spiking, was = loss > usual + config.spike_deviations * deviation, self._spiking
    self._spiking = spiking
    if spiking and not was:
      self._log.write(step, "spike", {"loss": loss, "usual_loss": usual})
      self._tell(
        f"step {step}: the loss jumped to {loss:.3f} from about {usual:.3f}. Its batch:"
        f" python -m t5tune.inspect_tasks --run={self._directory} --step={step}"
      )

  def _skipped(self, step: int, batch, metrics) -> None:
    self._bad_in_a_row += 1
    names = bad_parameters(metrics["grad_squares"])
    why = _in_words(float(metrics["loss"]), names)
    file, told = self._keep(step, batch, "skipped", why, metrics, names)
    self._tell(f"step {step} {told}. The batch: {file}")
    if self._bad_in_a_row >= self._config.max_bad_steps:
      reason = (
        f"{self._bad_in_a_row} updates in a row were skipped"
        f" (guard.GuardConfig.max_bad_steps = {self._config.max_bad_steps}); the last"
        f" {told}"
      )
      raise errors.UserError(self._what_now(step, reason))

  def _spoilt(self, step: int, batch, metrics) -> None:
    why = (
      "loss and gradients are finite, but the update is not, at a learning rate of"
      f" {float(metrics['learning_rate']):g}"
    )
    _, told = self._keep(step, batch, "spoilt", why, metrics, [])
    reason = f"this update {told}. These weights are not saved"
    raise errors.UserError(self._what_now(step, reason))

  def _keep(
    self, step: int, batch, kind: str, why: str, metrics, names
  ) -> tuple[pathlib.Path, str]:
    """Keeps the batch of a bad step, as arrays and text, and logs the step.

    Returns:
      The file with the text, and what happened, in words.
    """
    told = f"{_IN_WORDS[kind]}: {why}"
    if jax.process_count() > 1:
      batch = multihost_utils.process_allgather(batch, tiled=True)
    batch = {name: np.asarray(x) for name, x in batch.items()}
    file = self._directory / "bad_batches" / f"{step}.txt"
    if jax.process_index() == 0:
      arrays = io.BytesIO()
      np.savez_compressed(arrays, **batch)
      workdir.write_atomically(file.with_suffix(".npz"), arrays.getvalue())
      text = "\n".join([f"Step {step} {told}.", *batch_lines(batch, self._decode)])
      workdir.write_atomically(file, text + "\n")
    measured = ("loss", "grad_norm", "update_norm", "learning_rate")
    numbers = {name: float(metrics[name]) for name in measured}
    self._log.write(step, kind, numbers, details={"why": why, "parameters": names})
    return file, told

  def _what_now(self, step: int, reason: str) -> str:
    folders = (self._directory / "checkpoints").glob("*")
    good = max((int(p.name) for p in folders if p.name.isdigit()), default=None)
    start = f"{self._directory}/checkpoints/{good}" if good is not None else None
    where = (
      f"The last good checkpoint is {start}."
      if start
      else "There is no checkpoint yet, so the initial weights are the last good ones."
    )
    go_on = f" that starts from --gin.INIT={start}" if start else ""
    return (
      f"step {step}: {reason}. {where} Lower LEARNING_RATE, or set"
      " optimizers.OptimizerConfig.clip_norm, in a new"
      f" --workdir{go_on}; look at {self._directory}/bad_batches first."
    )


def bad_parameters(grad_squares: Mapping[str, Any]) -> list[str]:
  """Returns the parameters whose gradients are not finite, of stacks layer by layer.

  Args:
    grad_squares: 'encoder/layers/mlp/wi_0/kernel' -> sum of squares of the gradient, a
      scalar or, of a stack, (layers,).

  Returns:
    Names such as 'encoder/layers_3/mlp/wi_0/kernel', as T5X calls single layers.
  """
  names = []
  for name, squares in grad_squares.items():
    bad = ~np.isfinite(np.asarray(squares))
    if bad.ndim == 0:
      names += [name] if bad else []
      continue
    stack, _, rest = name.partition("layers/")
    names += [f"{stack}layers_{i}/{rest}" for i in np.flatnonzero(bad)]
  return names


def batch_lines(
  batch: Mapping[str, np.ndarray], decode: Callable[[np.ndarray], str]
) -> list[str]:
  """Returns a batch as text, the examples of a packed row apart.

  Args:
    batch: as `train_step.batch_loss` takes it, on the host.
    decode: token ids -> text.

  Returns:
    Lines: for every example its numbers of tokens, input, target and, where they are
    not all 1, the weights of its target tokens.
  """
  lines = []
  inputs, targets = batch["encoder_input_tokens"], batch["decoder_target_tokens"]
  weights = batch["decoder_loss_weights"]
  for row in range(len(inputs)):
    input_parts = batch["encoder_segment_ids"][row]
    target_parts = batch["decoder_segment_ids"][row]
    for part in sorted({*input_parts.tolist(), *target_parts.tolist()} - {0}):
      of_input, of_target = input_parts == part, target_parts == part
      weight = weights[row][of_target]
      lines += [
        "",
        f"Row {row}, example {part}: {of_input.sum()} input tokens,"
        f" {of_target.sum()} target tokens, {weight.sum():g} of them counted",
        f"  input:  {decode(inputs[row][of_input])}",
        f"  target: {decode(targets[row][of_target])}",
      ]
      if not np.all(weight == 1):
        lines.append(f"  weights: {' '.join(f'{w:g}' for w in weight)}")
  return lines


def _in_words(loss: float, names: list[str]) -> str:
  if not math.isfinite(loss):
    return f"the loss is {loss}"
  shown = ", ".join(names[:_MOST_NAMED])
  more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
  return f"the loss is {loss:g}, but the gradients of {shown}{more} are not finite"

"""What a run says while it runs: progress, metrics.jsonl and TensorBoard events."""

import contextlib
import functools
import json
import math
import os
import pathlib
import signal
import sys
import time
from collections.abc import Collection, Mapping
from typing import Any

from rich import progress as rich_progress
from rich.console import Console

from t5tune.training import workdir


class RunLog:
  """Appends to `metrics.jsonl` and to TensorBoard's events."""

  def __init__(self, directory: pathlib.Path, step: int, again: Collection[str] = ()):
    """Opens the files; what a killed run logged after `step` is dropped.

    At step 0 all is dropped: the run begins anew, with the scores before training.

    Args:
      directory: the work directory.
      step: the step the run starts from.
      again: purposes of the evaluations of `step` that are still to be finished; what
        they logged is dropped, too.
    """
    self._directory, self._step = directory, step
    self._path = directory / "metrics.jsonl"
    kept = []
    if step and self._path.is_file():
      lines = [line for line in _whole_lines(self._path) if line["step"] <= step]
      redone = lambda x: x["step"] == step and x.get("purpose") in again  # noqa: E731
      kept = [line for line in lines if not redone(line)]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    workdir.write_atomically(self._path, text)
    self._file = open(self._path, "a", encoding="utf-8")

  @functools.cached_property
  def _events(self):
    """TensorBoard's writer; a start that logs nothing leaves no file."""
    import tensorboardX  # no tensorflow behind it; imported late all the same

    return tensorboardX.SummaryWriter(
      str(self._directory / "tensorboard"),
      purge_step=self._step + 1 if self._step else 0,
    )

  def write(
    self,
    step: int,
    kind: str,
    values: Mapping[str, float],
    labels: Mapping[str, str] | None = None,
    details: Mapping[str, Any] | None = None,
  ) -> None:
    """Appends a record.

    Args:
      step: updates made.
      kind: 'train', 'eval', 'skipped' or 'spike'.
      values: name -> number; one that is not finite is written as null.
      labels: what else names the record, such as the task and split.
      details: JSON values that stand in `metrics.jsonl` alone.
    """
    labels = dict(labels or {})
    numbers = {k: v if math.isfinite(v) else None for k, v in values.items()}
    record = {"step": step, "kind": kind, **labels, **numbers, **(details or {})}
    try:
      self._file.write(json.dumps(record, allow_nan=False) + "\n")
      self._file.flush()
      prefix = "/".join([kind, *labels.values()])
      for name, value in values.items():
        self._events.add_scalar(f"{prefix}/{name}", value, step)
      self._events.flush()
    except OSError as e:
      raise workdir.cannot_write(self._path, e) from e

  def close(self) -> None:
    """Closes the files."""
    self._file.close()
    if "_events" in vars(self):
      self._events.close()


class NoLog:
  """The log of a process that writes nothing."""

  def write(self, *record: Any, **details: Any) -> None:
    """Does nothing."""

  def close(self) -> None:
    """Does nothing."""


def _whole_lines(path: pathlib.Path) -> list[dict]:
  lines = []
  for line in path.read_text(encoding="utf-8").splitlines():
    try:
      lines.append(json.loads(line))
    except ValueError:  # the line a kill cut short
      break
  return lines


class Progress:
  """A progress bar on a terminal, a line at a time elsewhere.

  It measures what it shows: target tokens a second and the share of time lost
  waiting for data, both since the latest line.
  """

  def __init__(
    self, console: Console, step: int, total_steps: int, label: str = "training"
  ):
    self._console, self._first, self._total = console, step, total_steps
    self._began = self._line_began = time.monotonic()
    self._paused = self._waited = 0.0
    self._waited_in_all = 0.0
    self._eval_began = self._began
    self._first_line = True
    self._bar = rich_progress.Progress(
      rich_progress.TextColumn("{task.description}"),
      rich_progress.BarColumn(bar_width=20),
      rich_progress.TextColumn("{task.completed}/{task.total} {task.fields[shown]}"),
      console=console,
      disable=not console.is_terminal,
      transient=True,
    )
    self._train = self._bar.add_task(label, completed=step, total=total_steps, shown="")
    self._eval = self._bar.add_task("evaluating", visible=False, total=1, shown="")

  def __enter__(self):
    self._bar.start()
    return self

  def __exit__(self, *exception):
    self._bar.stop()

  def waited(self, seconds: float) -> None:
    """Counts time spent waiting for data."""
    self._waited += seconds
    self._waited_in_all += seconds

  def line(self, step: int, loss: float, target_tokens: float) -> dict[str, float]:
    """Shows the state of training; returns what was measured.

    Args:
      step: updates made.
      loss: the loss, in nats a token.
      target_tokens: target tokens since the latest line.
    """
    now = time.monotonic()
    seconds = max(now - self._line_began, 1e-9)
    pace = (now - self._began - self._paused) / max(step - self._first, 1)
    eta = pace * (self._total - step)
    measured = {
      "target_tokens_per_second": target_tokens / seconds,
      "data_wait_share": self._waited / seconds,
    }
    shown = (
      f"loss {loss:.3f}  {measured['target_tokens_per_second']:,.0f} target tokens/s"
      f"  ETA {clock(eta)}  data wait {measured['data_wait_share']:.1%}"
      f" ({self._waited_in_all:.1f} s)"
    )
    if self._first_line:  # the first step compiled: it says nothing of the pace
      self._first_line, self._first, self._began, self._paused = False, step, now, 0.0
    self._line_began, self._waited = now, 0.0
    self._bar.update(self._train, completed=step, shown=shown)
    if not self._console.is_terminal:
      self._console.print(f"step {step}/{self._total}  {shown}", highlight=False)
    return measured

  def advance(self, done: int) -> None:
    """Moves the bar of a command that has no loss to show."""
    self._bar.update(self._train, completed=done)

  def evaluating(self, task: str, done: int, total: int, overall: float) -> None:
    """Shows how far an evaluation is.

    Args:
      task: the task that is evaluated.
      done: its rows done.
      total: its rows.
      overall: share of all tasks' rows that is done, 0 to 1.
    """
    left = (time.monotonic() - self._eval_began) * (1 - overall) / max(overall, 1e-9)
    eta = f"  ETA {clock(left)}"
    self._bar.update(
      self._eval, visible=True, completed=done, total=total, shown=task + eta
    )
    if done == total and not self._console.is_terminal:
      eta = eta if overall < 1 else ""
      self._console.print(f"evaluated {task}: {total} rows{eta}", highlight=False)

  @contextlib.contextmanager
  def evaluation(self):
    """Surrounds an evaluation, whose time counts neither for pace nor throughput."""
    self._eval_began = time.monotonic()
    try:
      yield
    finally:
      seconds = time.monotonic() - self._eval_began
      self._bar.update(self._eval, visible=False)
      self._paused += seconds
      self._line_began += seconds


def clock(seconds: float) -> str:
  """Returns a duration as 1:02:03 or 2:03."""
  seconds = max(0, math.ceil(seconds))
  hours, rest = divmod(seconds, 3600)
  minutes, rest = divmod(rest, 60)
  return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Console(Console):
  """A console whose reader may go away."""

  def on_broken_pipe(self) -> None:
    """Saves and stops as at a SIGTERM; what is still printed goes nowhere."""
    self.quiet = True
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    print("what read this output has gone away: stopping", file=sys.stderr)
    signal.raise_signal(signal.SIGTERM)


def console(quiet: bool = False) -> Console:
  """Returns the console; where output goes to a file, lines are not folded.

  Args:
    quiet: whether to print nothing, as processes other than the primary do.
  """
  return _Console(width=None if sys.stdout.isatty() else 160, quiet=quiet)

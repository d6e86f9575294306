"""Sides that take turns, each in a process of its own, and what their times say."""

import dataclasses
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from t5tune import errors

# Seconds before each measurement: threads of the other side may wait busily a while.
PAUSE = 0.3


class Worker:
  """A side in a process of its own, where the other's libraries and threads are not."""

  def __init__(self, name: str, ours: bool, side: Callable, *args: Any):
    """Starts the process.

    Args:
      name: of the side, for people.
      ours: whether it is t5tune.
      side: makes a callable that does the work; of a module that can be imported.
      *args: of `side`.
    """
    self.name, self.ours = name, ours
    context = multiprocessing.get_context("spawn")
    self._pipe, end = context.Pipe()
    self._process = context.Process(target=_serve, args=(end, side, args), daemon=True)
    self._process.start()
    end.close()
    #: what the side says of itself once it stands
    self.about = self._receive()

  def __call__(self, *request: Any) -> tuple[Any, float]:
    """Returns a side's answer, and the seconds it took."""
    self._pipe.send(request)
    return self._receive()

  def close(self) -> None:
    """Ends the process, and with it what it holds."""
    self._pipe.close()
    self._process.join()

  def _receive(self) -> Any:
    try:
      return self._pipe.recv()
    except EOFError:
      raise SystemExit(f"{self.name} ended.") from None


def _serve(pipe, side: Callable, args: Sequence[Any]) -> None:
  try:
    work = side(*args)
  except errors.UserError as e:
    print(f"error: {e}", file=sys.stderr)
    return
  pipe.send(getattr(work, "about", None))
  while True:
    try:
      request = pipe.recv()
    except EOFError:  # all is measured
      return
    time.sleep(PAUSE)
    began = time.perf_counter()
    made = work(*request)
    pipe.send((made, time.perf_counter() - began))


@dataclasses.dataclass(frozen=True)
class Comparison:
  """What sides took for the same work, by round.

  Attributes:
    title: what the work is.
    names: of the sides.
    ours: which of them are t5tune.
    seconds: of each side, by round.
    tokens: real input and target tokens of the work.
  """

  title: str
  names: Sequence[str]
  ours: Sequence[bool]
  seconds: Sequence[Sequence[float]]
  tokens: tuple[int, int]

  def text(self) -> str:
    """Returns a Markdown table, and the ratio of each of ours to each of theirs."""
    lines = [f"### {self.title}", ""]
    lines += ["| | median s | from | to | input tokens/s | target tokens/s |"]
    lines += ["|---|---|---|---|---|---|"]
    for name, taken in zip(self.names, self.seconds, strict=True):
      middle = statistics.median(taken)
      rates = " | ".join(f"{n / middle:,.0f}" for n in self.tokens)
      lines.append(
        f"| {name} | {middle:.2f} | {min(taken):.2f} | {max(taken):.2f} | {rates} |"
      )
    pairs = self.ratios()
    if pairs:
      lines += ["", "| times as fast | median | from | to |", "|---|---|---|---|"]
    for (mine, peer), ratios in pairs.items():
      middle = statistics.median(ratios)
      lines.append(
        f"| {mine} as {peer} | {middle:.2f} | {min(ratios):.2f} | {max(ratios):.2f} |"
      )
    return "\n".join(lines) + "\n"

  def ratios(self) -> dict[tuple[str, str], list[float]]:
    """Returns, by our side and its peer, the peer's seconds by ours in each round."""
    sides = list(zip(self.names, self.ours, self.seconds, strict=True))
    return {
      (a, b): [y / x for x, y in zip(mine, theirs, strict=True)]
      for a, is_ours, mine in sides
      for b, is_ours_too, theirs in sides
      if is_ours and not is_ours_too
    }


def compare(
  title: str,
  sides: Sequence[Worker],
  rounds: int,
  tokens: tuple[int, int],
  request: Sequence[Any] = (),
) -> Comparison:
  """Has all sides do the work in turn, after once that is not counted."""
  for side in sides:
    side(*request)
  seconds = [[] for _ in sides]
  for _ in range(rounds):
    for side, taken in zip(sides, seconds, strict=True):
      taken.append(side(*request)[1])
  names, ours = [s.name for s in sides], [s.ours for s in sides]
  return Comparison(title, names, ours, seconds, tokens)

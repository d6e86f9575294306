"""Ctrl-C and SIGTERM: finish the step, save, and go; where nothing is unsaved, just go.

Schedulers take a machine away with SIGTERM and, after a grace period, SIGKILL.
"""

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

from t5tune import command_line

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 10.0  # seconds for what Python cannot interrupt, such as compiling


class Stopped(BaseException):
  """A signal asked to stop at a moment when all that a run has is saved.

  No `Exception`, for libraries catch those.
  """


class Interrupt:
  """Answers SIGINT and SIGTERM; used as a context around a whole training.

  While nothing is unsaved, a signal raises `Stopped` in the main thread; where that
  hangs in native code, such as a compiler, the process ends some seconds later with
  `command_line.SAVED_NOT_FINISHED`. Between `hold` and `release` a signal only sets
  `requested`: the training loop asks for it after every step and saves. A further
  SIGINT then raises KeyboardInterrupt; a further SIGTERM, which some schedulers send,
  changes nothing.
  """

  def __init__(self, patience: float = _PATIENCE):
    """Makes the context.

    Args:
      patience: seconds until a main thread that does not react is ended.
    """
    self.requested = False
    self._patience, self._held, self._silent = patience, False, False
    self._before = {}

  def __enter__(self):
    # Signals are written to `wake` even while the main thread is in native code.
    self._wake, self._heard = socket.socketpair()
    self._wake.setblocking(False)
    self._wakeup_before = signal.set_wakeup_fd(self._wake.fileno())
    for number in _SIGNALS:
      self._before[number] = signal.signal(number, self._note)
    threading.Thread(target=self._listen, daemon=True).start()
    return self

  def __exit__(self, *exception):
    for number, handler in self._before.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(self._wakeup_before)
    self._wake.close()  # ends the listening thread, which closes the other

  def hold(self) -> None:
    """From here on there are steps that no checkpoint has: signals wait for a save."""
    self._held = True

  @contextlib.contextmanager
  def deferred(self) -> Iterator[None]:
    """Signals wait for the end of what may not be broken off, such as an import.

    Raises:
      Stopped: at the end, where one came.
    """
    self._held = self._silent = True
    try:
      yield
    finally:
      self._held = self._silent = False
    if self.requested:
      raise Stopped

  def release(self) -> None:
    """All is saved again; raises `Stopped` where a signal came meanwhile."""
    self._held = False
    if self.requested:
      raise Stopped

  def _note(self, number, frame):
    again, self.requested = self.requested, True
    if not self._held:
      raise Stopped
    if again and number == signal.SIGINT:
      raise KeyboardInterrupt
    if not again and not self._silent:
      print(
        "\nstopping: finishing this step and saving; Ctrl-C once more to stop at once",
        file=sys.stderr,
      )

  def _listen(self) -> None:
    """Ends the process where the main thread cannot: a thread of its own."""
    count, status, deadline = 0, 0, None
    with self._heard:
      while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([self._heard], [], [], left)[0]:
          if (
            status == command_line.ABORTED or not self._held
          ):  # a held run saves: let it
            print("stopped", file=sys.stderr, flush=True)
            os._exit(status)
          deadline = None
        elif not (heard := self._heard.recv(1)):
          return  # the context was left
        elif heard[0] in _SIGNALS:
          count += 1
          if deadline is None and not self._held:
            status, deadline = command_line.SAVED_NOT_FINISHED, self._deadline()
          elif deadline is None and count > 1 and heard[0] == signal.SIGINT:
            status, deadline = command_line.ABORTED, self._deadline()

  def _deadline(self) -> float:
    return time.monotonic() + self._patience

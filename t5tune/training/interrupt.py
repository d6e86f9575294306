"""Ctrl-C and SIGTERM: finish the step, save, and go."""

import signal
import sys


class Interrupt:
  """Notes the first SIGINT or SIGTERM; a second one stops at once.

  Used as a context around the training loop, which asks `requested` after every
  step and saves a checkpoint before it leaves.
  """

  def __init__(self):
    self.requested = False
    self._before = {}

  def __enter__(self):
    for number in (signal.SIGINT, signal.SIGTERM):
      self._before[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, *exception):
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _note(self, number, frame):
    if self.requested:
      raise KeyboardInterrupt
    self.requested = True
    print(
      "\nstopping: finishing this step and saving; once more to stop at once",
      file=sys.stderr,
    )

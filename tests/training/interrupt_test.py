"""Tests of Ctrl-C and SIGTERM, with real signals."""

import os
import signal

import pytest

from t5tune.training import interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_stops(number, capfd):
  before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
  with interrupt.Interrupt() as stop:
    assert not stop.requested
    os.kill(os.getpid(), number)
    assert stop.requested  # and nothing was raised
    assert "saving" in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), number)
  after = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
  assert after == before

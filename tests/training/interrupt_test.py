"""Tests of Ctrl-C and SIGTERM, with real signals."""

import os
import signal
import subprocess
import sys
import time

import pytest

from t5tune import command_line
from t5tune.training import interrupt

BOTH = [signal.SIGINT, signal.SIGTERM]


def send(number) -> None:
  os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def handlers_are_put_back():
  before = [signal.getsignal(n) for n in BOTH], signal.set_wakeup_fd(-1)
  signal.set_wakeup_fd(before[1])
  yield
  after = [signal.getsignal(n) for n in BOTH], signal.set_wakeup_fd(-1)
  signal.set_wakeup_fd(before[1])
  assert after == before


@pytest.mark.parametrize("number", BOTH)
def test_where_nothing_is_unsaved_a_signal_stops_at_once(number):
  with interrupt.Interrupt() as stop:
    with pytest.raises(interrupt.Stopped):
      send(number)
    assert stop.requested


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_waits_for_a_save(number, capfd):
  with interrupt.Interrupt() as stop:
    stop.hold()
    assert not stop.requested
    send(number)
    assert stop.requested  # and nothing was raised
    assert "saving" in capfd.readouterr().err
    with pytest.raises(interrupt.Stopped):
      stop.release()


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_waits_for_the_end_of_an_import(number, capfd):
  with interrupt.Interrupt() as stop:
    with pytest.raises(interrupt.Stopped):
      with stop.deferred():
        send(number)
        imported = True  # and nothing was raised
    assert imported and capfd.readouterr().err == ""
    with pytest.raises(interrupt.Stopped):
      send(number)


def test_no_signal_no_stop():
  with interrupt.Interrupt() as stop:
    stop.hold()
    stop.release()
    assert not stop.requested


@pytest.mark.parametrize("first", BOTH)
def test_ctrl_c_once_more_aborts(first):
  with interrupt.Interrupt() as stop:
    stop.hold()
    send(first)
    with pytest.raises(KeyboardInterrupt):
      send(signal.SIGINT)


def test_schedulers_may_repeat_sigterm(capfd):
  with interrupt.Interrupt() as stop:
    stop.hold()
    for _ in range(5):
      send(signal.SIGTERM)
    assert stop.requested
    assert capfd.readouterr().err.count("saving") == 1


def test_libraries_do_not_catch_a_stop():
  assert not issubclass(interrupt.Stopped, Exception)


# One call of minutes, which Python cannot interrupt; a compiler is no other.
_HANGING = """
import hashlib
from t5tune.training import interrupt
with interrupt.Interrupt(patience=1.0) as stop:
  {hold}
  print("begun", flush=True)
  hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


@pytest.mark.parametrize(
  "hold,signals,status",
  [
    ("", [signal.SIGTERM], command_line.SAVED_NOT_FINISHED),
    ("stop.hold()", [signal.SIGINT, signal.SIGINT], command_line.ABORTED),
  ],
  ids=["unheld", "aborted"],
)
def test_a_main_thread_in_native_code_does_not_hold_up_the_end(hold, signals, status):
  code = _HANGING.format(hold=hold)
  process = subprocess.Popen(
    [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
  )
  assert process.stdout.readline() == b"begun\n"
  time.sleep(0.5)
  began = time.monotonic()
  for number in signals:
    process.send_signal(number)
    time.sleep(0.3)
  _, said = process.communicate()
  assert (process.returncode, said.splitlines()[-1:]) == (status, [b"stopped"])
  assert time.monotonic() - began < 10

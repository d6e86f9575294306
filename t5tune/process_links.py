"""What connects the processes of a run: the first one with each of the others.

A plain connection, beside the accelerators' own network: it is there while devices
are busy, has no time limit, and its end tells that a process died, at once where a
process is killed and within `_SILENCE` seconds where a whole machine is gone.
"""

import contextlib
import json
import os
import queue
import socket
import sys
import threading
import time
from typing import Any

from t5tune import command_line, errors
from t5tune.process_places import Place

_PATIENCE = 600  # seconds for all processes to come
_REPORT = 20  # seconds between lines that say who is missing
_SILENCE = 40  # seconds without a sign of life from another machine
_SETTLE = 8  # seconds in which what concerns all has reached all


class Line:
  """A connection that carries JSON values, one a line."""

  def __init__(self, connection: socket.socket):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # The kernel asks for signs of life, so a busy interpreter does not look dead.
    for name, value in (
      ("TCP_KEEPIDLE", _SILENCE // 4),
      ("TCP_KEEPINTVL", _SILENCE // 8),
      ("TCP_KEEPCNT", 6),
      ("TCP_USER_TIMEOUT", _SILENCE * 1000),
    ):
      if hasattr(socket, name):  # not on every system
        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    self._connection = connection
    self._reader = connection.makefile("rb")
    self._sending = threading.Lock()

  def send(self, value: Any) -> None:
    """Sends a JSON value; to one that is gone, nothing."""
    with self._sending, contextlib.suppress(OSError):
      self._connection.sendall(json.dumps(value).encode() + b"\n")

  def receive(self) -> Any | None:
    """Returns the next value; None where the other side is gone."""
    try:
      line = self._reader.readline()
      return json.loads(line) if line.endswith(b"\n") else None
    except (OSError, ValueError):
      return None

  def time_out(self, seconds: float | None) -> None:
    """Limits how long `receive` waits."""
    self._connection.settimeout(seconds)

  def close(self) -> None:
    with contextlib.suppress(OSError):
      self._connection.shutdown(socket.SHUT_RDWR)
    self._connection.close()


class Links:
  """The links of one process: of the first to all others, of these to the first.

  Attributes:
    place: where this process stands.
    hosts: name of the machine of every process.
  """

  def __init__(self, place: Place, lines: dict[int, Line], hosts: list[str]):
    """Begins to listen.

    Args:
      place: where this process stands.
      lines: index of another process -> the connection.
      hosts: name of the machine of every process.
    """
    self.place, self.hosts, self._lines = place, hosts, lines
    self._heard = {index: queue.SimpleQueue() for index in lines}
    self._round = 0
    self._ending, self._parting = threading.Lock(), False
    for index in lines:
      threading.Thread(target=self._listen, args=(index,), daemon=True).start()

  def gather(self, name: str, value: Any = None) -> list[Any]:
    """Waits for all processes to come here; returns what each of them brought.

    Args:
      name: of the place in the program, the same in all of them.
      value: a JSON value.
    """
    return self._gather(name, value, None)

  def _gather(self, name: str, value: Any, patience: float | None) -> list[Any]:
    self._round += 1
    at = [self._round, name]
    if self.place.index:
      self._lines[0].send({"at": at, "value": value})
      return self._next(0, at, patience)
    values = [value, *(self._next(i, at, patience) for i in sorted(self._lines))]
    for line in self._lines.values():
      line.send({"at": at, "value": values})
    return values

  def _next(self, index: int, at: list, patience: float | None) -> Any:
    heard = self._heard[index].get(timeout=patience)
    if heard is None:
      self._follow(self._lost(index))
    if heard["at"] != at:
      raise RuntimeError(f"process {index} is at {heard['at']}, this one at {at}")
    return heard["value"]

  def end(self, status: int, text: str) -> None:
    """Tells the others that this process ends early, and ends it.

    Args:
      status: the exit status.
      text: why, in a line.
    """
    self._end(status, {"ended": [self.place.index, status, text]})

  def settle(self) -> None:
    """Leaves time to notice that another process ended, which ends this one."""
    time.sleep(_SETTLE)

  def part(self, status: int) -> None:
    """Leaves together with the others; ends them if they are not about to leave.

    Args:
      status: the exit status.
    """
    self._parting = True
    try:
      self._gather("parting", status, _PATIENCE if status == 0 else _SETTLE)
    except (queue.Empty, RuntimeError):
      self.end(status, f"it left with status {status}; see what it says")

  def _listen(self, index: int) -> None:
    """Takes what a process sends, until it ends."""
    while (heard := self._lines[index].receive()) is not None:
      if "ended" in heard:
        self._follow(heard)
      self._heard[index].put(heard)
    if self._parting:
      self._heard[index].put(None)
    else:
      self._follow(self._lost(index))

  def _lost(self, index: int) -> dict:
    text = f"it died, or its machine ({self.hosts[index]}) is gone"
    return {"ended": [index, command_line.SAVED_NOT_FINISHED, text]}

  def _follow(self, heard: dict) -> None:
    """Ends this process because another one ended."""
    index, status, text = heard["ended"]
    shown = f"\nprocess {index} of {self.place.count} ended: {text}."
    if status == command_line.SAVED_NOT_FINISHED:
      shown += (
        " This one stops, too; start all processes again to go on from the latest"
        " checkpoint."
      )
    self._end(status, heard, shown)

  def _end(self, status: int, told: dict, shown: str = "") -> None:
    if not self._ending.acquire(blocking=False):
      threading.Event().wait()  # another thread is ending the process
    for line in self._lines.values():
      line.send(told)
    if shown:
      print(shown, file=sys.stderr, flush=True)
    _exit(status)


def _exit(status: int) -> None:
  """Ends the process at once: the main thread may wait for the dead for ever."""
  if sys.stdout.isatty():
    print("\x1b[?25h", end="")  # a progress bar hides the cursor
  with contextlib.suppress(OSError, ValueError):
    sys.stdout.flush()
    sys.stderr.flush()
  os._exit(status)


def meet(
  place: Place, brought: dict[str, Any]
) -> tuple[Links, list[dict[str, Any]], int]:
  """Connects the processes of a run; returns when all have come.

  Args:
    place: where this process stands.
    brought: what the others should know of it, as JSON values: `host`, and
      `versions`, which must be the same.

  Returns:
    The links, what every process brought, and a port of the first one for jax's own
    exchange.

  Raises:
    UserError: a process does not come, or is not of this run.
  """
  if place.index:
    return _go_to_first(place, brought)
  lines, known = _receive_others(place, brought)
  port = _free_port()
  everyone = [known[index] for index in range(place.count)]
  for line in lines.values():
    line.send({"everyone": everyone, "port": port})
  return Links(place, lines, [one["host"] for one in everyone]), everyone, port


def _receive_others(place: Place, brought: dict) -> tuple[dict[int, Line], dict]:
  lines: dict[int, Line] = {}
  known = {0: brought}
  deadline, report = time.monotonic() + _PATIENCE, time.monotonic() + _REPORT
  with _server(place) as server:
    server.settimeout(1)
    while len(known) < place.count:
      missing = [i for i in range(place.count) if i not in known]
      shown = f"{', '.join(map(str, missing[:8]))}{' ...' if missing[8:] else ''}"
      if time.monotonic() > deadline:
        raise errors.UserError(
          f"process {shown} of {place.count} did not come to {place.address} within"
          f" {_PATIENCE} s. Start all of them with the same --coordinator_address and"
          " --num_processes, and see whether they reach this host and port."
        )
      if time.monotonic() > report:
        report += _REPORT
        print(f"waiting at {place.address} for process {shown}", file=sys.stderr)
      try:
        connection, _ = server.accept()
      except TimeoutError:
        continue
      line = Line(connection)
      line.time_out(10)  # whoever connects and says nothing is none of us
      hello = line.receive()
      refused = _refusal(place, hello, known)
      if refused:
        line.send({"refused": refused})
        line.close()
        continue
      line.time_out(None)
      lines[hello["index"]], known[hello["index"]] = line, hello
  return lines, known


def _server(place: Place) -> socket.socket:
  try:
    if socket.has_dualstack_ipv6():
      every = ("", place.port)
      return socket.create_server(
        every, family=socket.AF_INET6, dualstack_ipv6=True, backlog=place.count
      )
    return socket.create_server(("", place.port), backlog=place.count)
  except OSError as e:
    raise errors.UserError(
      f"port {place.port} of --coordinator_address={place.address} cannot be used here:"
      f" {e.strerror or e}. Choose another one for all processes."
    ) from e


def _refusal(place: Place, hello: Any, known: dict[int, dict]) -> str | None:
  """Returns why a process that came is none of this run's, or None."""
  if not isinstance(hello, dict) or "index" not in hello:
    return "it is no process of t5tune"
  index = hello["index"]
  if hello["count"] != place.count:
    return f"--num_processes={hello['count']} there, {place.count} in the first process"
  if index in known:
    return f"process {index} is there already, on {known[index]['host']}"
  if hello["versions"] != known[0]["versions"]:
    return f"it runs {hello['versions']}, the first process {known[0]['versions']}"
  return None


def _go_to_first(place: Place, brought: dict) -> tuple[Links, list, int]:
  connection = _connect(place)
  line = Line(connection)
  line.send({**brought, "index": place.index, "count": place.count})
  line.time_out(_PATIENCE + 60)
  told = line.receive()
  line.time_out(None)
  if told is None:
    raise errors.UserError(
      f"the first process, at {place.address}, ended before all processes had come;"
      " see what it says."
    )
  if "refused" in told:
    raise errors.UserError(
      f"the first process, at {place.address}, does not take process {place.index}:"
      f" {told['refused']}."
    )
  everyone = told["everyone"]
  links = Links(place, {0: line}, [one["host"] for one in everyone])
  return links, everyone, told["port"]


def _connect(place: Place) -> socket.socket:
  deadline, report = time.monotonic() + _PATIENCE, time.monotonic() + _REPORT
  while True:
    try:
      return socket.create_connection((place.host, place.port), timeout=10)
    except OSError as e:
      if time.monotonic() > deadline:
        raise errors.UserError(
          f"process {place.index} cannot reach the first one at {place.address}:"
          f" {e.strerror or e}. Is it running, and the port open?"
        ) from e
    if time.monotonic() > report:
      report += _REPORT
      shown = f"process {place.index} is waiting for the first one at {place.address}"
      print(shown, file=sys.stderr)
    time.sleep(0.3)


def _free_port() -> int:
  """Returns a port that nobody listens at."""
  with socket.create_server(("", 0)) as server:
    return server.getsockname()[1]


def shield(host: str, port: int) -> int:
  """Forwards a local port; returns it.

  jax's client aborts its process, with a page of addresses, the moment the first
  process dies. Behind this port it does not notice: the links do, and say it.

  Args:
    host: the machine to forward to.
    port: and its port.
  """
  server = socket.create_server(("127.0.0.1", 0))

  def accept() -> None:
    while True:
      near, _ = server.accept()
      threading.Thread(target=connect, args=(near,), daemon=True).start()

  def connect(near: socket.socket) -> None:
    try:
      far = socket.create_connection((host, port), timeout=10)
    except OSError:  # not there yet: jax's client asks again
      near.close()
      return
    far.settimeout(None)
    threading.Thread(target=_pump, args=(far, near, False), daemon=True).start()
    _pump(near, far, True)

  threading.Thread(target=accept, daemon=True).start()
  return server.getsockname()[1]


def _pump(source: socket.socket, sink: socket.socket, ends: bool) -> None:
  """Copies bytes; tells the other side of an end only if `ends`."""
  with contextlib.suppress(OSError):
    while data := source.recv(2**16):
      sink.sendall(data)
    if ends:
      sink.close()

"""Tests of the links between processes, with threads in the place of processes."""

import queue
import socket
import threading
import time

import pytest

from t5tune import command_line, errors, process_links
from t5tune.process_places import Place

# Listening threads end by the SystemExit of `ended`.
pytestmark = pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)


@pytest.fixture
def ended(monkeypatch):
  """Statuses with which a process would have ended."""
  statuses = queue.SimpleQueue()

  def leave(status):
    statuses.put(status)
    raise SystemExit  # ends the listening thread, as it would the process

  monkeypatch.setattr(process_links, "_exit", leave)
  return statuses


def brought(**changed):
  return {"host": "here", "versions": {"t5tune": "1"}, **changed}


def meet(port, count, index, **changed):
  place = Place(f"127.0.0.1:{port}", count, index)
  return process_links.meet(place, brought(**changed))


def together(*functions):
  """Runs functions at the same time; returns their results, or raises what one does."""
  results = [None] * len(functions)

  def run(i):
    try:
      results[i] = functions[i]()
    except BaseException as e:
      results[i] = e

  threads = [threading.Thread(target=run, args=(i,)) for i in range(len(functions))]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(30)
    assert not thread.is_alive()
  for result in results:
    if isinstance(result, BaseException):
      raise result
  return results


def met(count):
  port = process_links._free_port()
  return together(*(lambda i=i: meet(port, count, i) for i in range(count)))


@pytest.fixture
def three(ended):
  return [links for links, _, _ in met(3)]


def test_processes_meet_whatever_their_order(ended):
  port = process_links._free_port()

  def late(index):
    time.sleep(0.5)
    return meet(port, 3, index, host=f"h{index}")

  found = together(
    lambda: meet(port, 3, 2, host="h2"), lambda: late(0), lambda: late(1)
  )
  links, everyone, ports = zip(*found, strict=True)
  assert [one["host"] for one in everyone[0]] == ["h0", "h1", "h2"]
  assert everyone[0] == everyone[1] == everyone[2]
  assert len(set(ports)) == 1
  assert links[0].hosts == links[1].hosts == ["h0", "h1", "h2"]


def test_what_each_brings_reaches_all(three):
  gathered = together(*(lambda i=i: three[i].gather("here", i * i) for i in range(3)))
  assert gathered == [[0, 1, 4]] * 3
  # As often as one likes; nobody runs ahead.
  for k in range(20):
    found = together(*(lambda i=i, k=k: three[i].gather("k", [k, i]) for i in range(3)))
    assert found == [[[k, 0], [k, 1], [k, 2]]] * 3


def test_the_first_waits_for_the_last(three):
  order = []

  def slow():
    time.sleep(0.3)
    order.append("slow")
    three[2].gather("here")

  def quick(i):
    three[i].gather("here")
    order.append(i)

  together(slow, lambda: quick(0), lambda: quick(1))
  assert order[0] == "slow"


def test_processes_at_different_places_are_an_error(three):
  with pytest.raises(RuntimeError, match="process 1 is at .*'there'.*'here'"):
    together(
      lambda: three[0].gather("here"),
      lambda: three[1]._lines[0].send({"at": [1, "there"], "value": None}),
    )


def die(links):
  """Does what a kernel does to the connections of a process that it kills."""
  links._ending.acquire()  # it says no more
  for line in links._lines.values():
    line.close()


def test_a_dead_process_ends_the_others(three, ended, capfd):
  die(three[2])
  # The first notices it and tells the second before it ends itself.
  assert [ended.get(timeout=10) for _ in range(2)] == [75, 75]
  shown = capfd.readouterr().err
  assert (
    shown.count("process 2 of 3 ended: it died, or its machine (here) is gone") >= 2
  )
  assert "start all processes again" in shown


def test_a_dead_first_process_ends_the_others(three, ended):
  die(three[0])
  statuses = [ended.get(timeout=10) for _ in range(2)]
  assert set(statuses) == {command_line.SAVED_NOT_FINISHED}


def test_a_mistake_ends_all_with_its_status_and_words(three, ended, capfd):
  with pytest.raises(SystemExit):
    three[1].end(command_line.USER_ERROR, "no such file: a.jsonl")
  assert [ended.get(timeout=10) for _ in range(3)] == [2, 2, 2]
  shown = capfd.readouterr().err
  assert shown.count("process 1 of 3 ended: no such file: a.jsonl") == 2
  assert "start all processes again" not in shown


def test_processes_part_together_without_a_word(three, ended, capfd):
  together(*(lambda i=i: three[i].part(0) for i in range(3)))
  for links in three:
    for line in links._lines.values():
      line.close()
  time.sleep(0.3)
  assert ended.empty()
  assert capfd.readouterr().err == ""


def test_one_that_leaves_alone_takes_the_others_along(three, ended, monkeypatch):
  monkeypatch.setattr(process_links, "_SETTLE", 0.2)
  with pytest.raises(SystemExit):
    three[1].part(75)
  assert [ended.get(timeout=10) for _ in range(3)] == [75, 75, 75]


@pytest.mark.parametrize(
  "count,index,changed,message",
  [
    (3, 1, {}, "--num_processes=3 there, 2 in the first"),
    (2, 0, {}, "port .* cannot be used here"),
    (2, 1, {"versions": {"t5tune": "2"}}, "it runs {'t5tune': '2'}, the first"),
  ],
)
def test_one_that_is_not_of_the_run_is_refused(
  count, index, changed, message, ended, monkeypatch
):
  monkeypatch.setattr(process_links, "_PATIENCE", 4)
  port = process_links._free_port()
  first = threading.Thread(target=lambda: meet(port, 2, 0), daemon=True)
  first.start()
  time.sleep(0.3)
  with pytest.raises(errors.UserError, match=message):
    meet(port, count, index, **changed)
  meet(port, 2, 1)  # the right one still comes in
  first.join(10)
  assert not first.is_alive()


def test_one_that_does_not_come_is_named(monkeypatch):
  monkeypatch.setattr(process_links, "_PATIENCE", 0.5)
  with pytest.raises(errors.UserError, match="process 1, 2 of 3 did not come to"):
    meet(process_links._free_port(), 3, 0)
  with pytest.raises(errors.UserError, match="process 2 cannot reach the first one"):
    meet(process_links._free_port(), 3, 2)


def test_a_stranger_at_the_port_does_no_harm(ended):
  port = process_links._free_port()

  def stranger():
    with process_links._connect(Place(f"127.0.0.1:{port}", 2, 1)) as connection:
      connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
    return meet(port, 2, 1)

  found = together(lambda: meet(port, 2, 0), stranger)
  assert [one["host"] for one in found[0][1]] == ["here", "here"]


def test_a_shield_hides_the_end_of_the_other_side():
  with socket.create_server(("127.0.0.1", 0)) as server:
    port = process_links.shield("127.0.0.1", server.getsockname()[1])
    near = socket.create_connection(("127.0.0.1", port))
    far, _ = server.accept()
    near.sendall(b"question")
    assert far.recv(100) == b"question"
    far.sendall(b"answer")
    assert near.recv(100) == b"answer"
    far.close()
    near.settimeout(0.5)
    with pytest.raises(TimeoutError):
      near.recv(100)
    near.close()

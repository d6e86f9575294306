"""Two processes train as one does: losses, scores, checkpoints, stops and deaths."""

import json
import shutil
import signal

import pytest
import two_processes
from tiny_project import checkpoint, records, start

from t5tune import processes

NO_SCORES = {"EVAL_STEPS": 0, "run__Run__eval_before": False}


def steps(workdir) -> list[int]:
  return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir())


def assert_same_training(found, wanted, steps):
  """Checks that two runs had the same losses and batches, each logged once."""
  found, wanted = (
    [line for line in records(d) if line["kind"] == "train" and line["step"] <= steps]
    for d in (found, wanted)
  )
  assert [line["step"] for line in found] == list(range(1, steps + 1))
  for ours, theirs in zip(found, wanted, strict=True):
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
    assert ours["target_tokens"] == theirs["target_tokens"]
    assert ours["feed"] == theirs["feed"]


def assert_same_scores(found, wanted, name):
  found, wanted = (
    json.loads((d / "scores" / name).read_text())["tasks"] for d in (found, wanted)
  )
  assert [t["task"] for t in found] == [t["task"] for t in wanted]
  for ours, theirs in zip(found, wanted, strict=True):
    assert ours["scores"] == theirs["scores"]
    assert ours["rows"] == theirs["rows"]
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)


def test_two_stop_together_and_one_goes_on(finished, tmp_path):
  # Only one of them gets the signal; each holds half of the rows of a batch.
  workdir, mesh = tmp_path / "two", {"data": 1, "fsdp": 2, "tensor": 4}
  signals = {1: (signal.SIGTERM, 2)}
  first, second = two_processes.run(workdir, signals, MESH=mesh, **NO_SCORES)
  assert (first.status, second.status) == (75, 75), (first.err, second.err)
  stopped = max(steps(workdir))
  assert stopped in (2, 3, 4)
  assert f"Stopped at step {stopped}." in first.out
  assert "step 1/6" not in second.out, "one of them speaks"
  assert_same_training(workdir, finished, stopped)

  # Eight devices of one process take up what two processes saved.
  assert start(workdir) == 0
  assert_same_training(workdir, finished, 6)
  assert_same_scores(workdir, finished, "test-6.json")


def test_two_go_on_from_one_and_survive_a_death(finished, tmp_path):
  workdir = tmp_path / "one"
  shutil.copytree(finished, workdir)
  for step in steps(workdir):
    if step != 4:
      shutil.rmtree(workdir / "checkpoints" / str(step))
  for folder in ("scores", "predictions"):
    for file in (workdir / folder).glob("*-6.*"):
      file.unlink()

  # The first, which the other's jax hangs on, dies; both feed all rows of a batch.
  signals = {0: (signal.SIGKILL, 2)}
  _, second = two_processes.run(workdir, signals, MESH={"tensor": 8}, **NO_SCORES)
  assert second.status == 75, second.err
  told = "process 0 of 2 ended: it died, or its machine"
  assert told in second.err and "start all processes again" in second.err
  for page in ("Traceback", "Check failure", "terminate called"):
    assert page not in second.err

  first, second = two_processes.run(workdir)
  assert (first.status, second.status) == (0, 0), (first.err, second.err)
  assert "Continuing from step 4" in first.out and "Scores at step 6" in first.out
  assert "Scores at step 6" not in second.out
  assert_same_training(workdir, finished, 6)
  for name in ("validation-6.json", "test-6.json"):
    assert_same_scores(workdir, finished, name)
  found, wanted = (checkpoint(d, 6) for d in (workdir, finished))
  assert found["best"] == wanted["best"]
  scored = [line for line in records(workdir) if line["kind"] == "eval"]
  assert len(scored) == len([r for r in records(finished) if r["kind"] == "eval"])


def test_a_mistake_of_one_ends_both(workplace, tmp_path):
  own = {1: ["--gin.SEED=5"]}
  ended = two_processes.run(tmp_path / "run", own=own)
  assert [e.status for e in ended] == [2, 2]
  for e in ended:
    assert "process 1 has another configuration than process 0" in e.err
    assert "Traceback" not in e.err
  assert not (tmp_path / "run").exists()


# Batches 1 to 4 are scored before training, 5 and 6 are steps, from 7 on it evaluates.
@pytest.mark.long
@pytest.mark.parametrize(
  "number,index,batch",
  [
    *((signal.SIGKILL, i, b) for i, b in [(0, 2), (1, 5), (0, 8), (1, 8)]),
    *((signal.SIGTERM, i, b) for i, b in [(1, 2), (0, 5), (1, 8)]),
    *((signal.SIGINT, i, b) for i, b in [(1, 5), (0, 8)]),
  ],
)
def test_whatever_happens_to_either_both_go_on(
  finished, tmp_path, number, index, batch
):
  workdir = tmp_path / "two"
  ended = two_processes.run(workdir, {index: (number, batch)})
  assert ended[1 - index].status == 75, ended[1 - index].err
  assert ended[index].status == (-9 if number == signal.SIGKILL else 75)
  ended = two_processes.run(workdir)
  assert [e.status for e in ended] == [0, 0], [e.err for e in ended]
  assert_same_training(workdir, finished, 6)
  assert_same_scores(workdir, finished, "test-6.json")


@pytest.mark.long
def test_two_score_a_checkpoint_as_one_does(finished, tmp_path):
  workdir = tmp_path / "scored"
  shutil.copytree(finished, workdir)
  (workdir / "scores" / "test-6.json").unlink()
  ended = two_processes.run(workdir, module="eval")
  assert [e.status for e in ended] == [0, 0], [e.err for e in ended]
  assert "Scores at step 6" in ended[0].out and ended[1].out.count("Scores") == 0
  assert_same_scores(workdir, finished, "test-6.json")


def test_one_process_asks_nobody():
  assert processes.is_primary()
  wanted = []
  agreement = processes.Agreement(lambda: bool(wanted))
  assert not agreement.reached()
  wanted.append(1)
  assert agreement.reached()
  assert processes.from_primary("here", lambda: {"a": [1]}) == {"a": [1]}
  assert processes.in_turns("here", lambda: object) is object
  processes.wait_for_all("here")
  processes.check_same("text", "text")

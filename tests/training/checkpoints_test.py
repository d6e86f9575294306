"""Tests of checkpoints: what is kept, and what comes back."""

import dataclasses
import math
import resource

import jax
import numpy as np
import pytest

from t5tune import errors
from t5tune.training import checkpoints
from tests.training import tiny_run, toy_state

# Of a read or write that fails, orbax drops the other half without awaiting it.
pytestmark = pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnraisableExceptionWarning"
)


def metas(scores: dict[int, float | None]) -> dict[int, dict]:
  """Returns what a training loop keeps with each step, given the scores of some."""
  made, best = {}, (None, 0)
  for step, score in scores.items():
    if score is not None and (best[0] is None or score > best[0]):
      best = (score, step)
    made[step] = toy_state.best(*best)
  return made


@pytest.mark.parametrize(
  "scores,keep,kept,best",
  [
    ({1: None, 2: None, 3: None}, 1, [3], None),
    ({1: None, 2: None, 3: None}, 2, [2, 3], None),
    ({1: 0.5, 2: 0.9, 3: 0.7, 4: None, 5: 0.1}, 1, [2, 5], 2),
    ({1: 0.5, 2: 0.9, 3: 0.7, 4: None, 5: None}, 2, [2, 4, 5], 2),
    ({1: -3.0, 2: None, 3: -2.0}, 1, [3], 3),
    ({1: 0.0, 2: 0.0, 3: 0.0}, 1, [1, 3], 1),
    ({1: 0.5, 2: 0.9, 3: 0.7}, 0, [2, 3], 2),  # the newest is always kept
  ],
  ids=str,
)
def test_the_latest_and_the_best_are_kept(tmp_path, scores, keep, kept, best):
  saved = toy_state.save_all(tmp_path / "made" / "checkpoints", metas(scores), keep)
  assert saved.steps() == kept
  assert saved.latest() == max(scores)
  assert saved.best(toy_state.BY) == best
  assert saved.best("errors") is None


def test_what_the_newest_calls_best_is_kept(tmp_path):
  # BEST_METRIC changed after step 2: what was best by the old one may go.
  other = {3: toy_state.best(-0.5, 3, "errors"), 4: toy_state.best(-0.5, 3, "errors")}
  saved = toy_state.save_all(tmp_path, {**metas({1: 90.0, 2: None}), **other})
  assert saved.steps() == [3, 4]
  assert (saved.best("errors"), saved.best(toy_state.BY)) == (3, None)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_never_the_best(tmp_path, score):
  saved = toy_state.save_all(tmp_path, {s: toy_state.best(score, 1) for s in (1, 2)})
  assert saved.steps() == [2]
  assert saved.best(toy_state.BY) is None


def test_an_absent_directory_is_read_as_empty_and_not_made(tmp_path):
  saved = checkpoints.Checkpoints(tmp_path / "none", read_only=True)
  assert (saved.steps(), saved.latest()) == ([], None)
  assert saved.best(toy_state.BY) is None
  assert not list(tmp_path.iterdir())


def test_what_was_saved_comes_back_on_any_mesh(tmp_path):
  saved, state = (
    toy_state.save_all(tmp_path, {7: toy_state.META}),
    toy_state.toy_state(7),
  )
  for mesh in ({}, {"data": 8}, {"tensor": 8}):
    place = toy_state.abstract(toy_state.toy_state(0, **mesh))
    restored, meta = saved.restore(7, place)
    toy_state.assert_same(restored, state)
    for x, expected in zip(
      jax.tree.leaves(restored), jax.tree.leaves(place), strict=True
    ):
      assert x.sharding == expected.sharding
    assert {k: meta[k] for k in toy_state.META} == toy_state.META
    evaluated = {**state.params, "wi": state.average["wi"]}
    toy_state.assert_same(saved.restore_params(7, place.params), evaluated)


def test_without_an_average_the_parameters_are_evaluated(tmp_path):
  state = dataclasses.replace(toy_state.toy_state(7), average=None)
  saved = checkpoints.Checkpoints(tmp_path)
  saved.save(state, toy_state.META)
  saved.close()
  place = toy_state.abstract(state)
  toy_state.assert_same(saved.restore(7, place)[0], state)
  toy_state.assert_same(saved.restore_params(7, place.params), state.params)


def test_single_parameters_are_read_as_they_are_evaluated(tmp_path):
  saved, state = (
    toy_state.save_all(tmp_path, {7: toy_state.META}),
    toy_state.toy_state(7),
  )
  read = saved.param_reader(7)
  toy_state.assert_same(read(("norm", "scale")), state.params["norm"]["scale"])
  toy_state.assert_same(read(("wi", "kernel")), state.average["wi"]["kernel"])


def test_training_goes_on_exactly_where_it_stopped(tmp_path):
  run = tiny_run.tiny_run("adafactor", data=2, fsdp=2, tensor=2)
  saved = checkpoints.Checkpoints(tmp_path)
  state, _ = run.steps(run.start(), 2)
  saved.save(state, toy_state.META)
  # At once, and giving away the buffers that are being written.
  state, metrics = run.steps(state, 3)
  saved.close()
  saved = checkpoints.Checkpoints(tmp_path)
  assert saved.latest() == 2
  restored, _ = saved.restore(2, run.abstract)
  again, same = run.steps(restored, 3)
  assert same == metrics
  toy_state.assert_same(again, state)
  other = tiny_run.tiny_run("adafactor", fsdp=2, tensor=4)
  moved, _ = saved.restore(2, other.abstract)
  _, close = other.steps(moved, 3)
  losses = [m["loss"] for m in metrics]
  np.testing.assert_allclose([m["loss"] for m in close], losses, rtol=1e-5)


def test_what_is_kept_beside_a_step_may_change(tmp_path):
  # As after an evaluation that a signal had broken off.
  saved = checkpoints.Checkpoints(tmp_path, keep=1)
  for step in (5, 7):
    saved.save(toy_state.toy_state(step), toy_state.best(0.1, 5))
    saved.wait()
  before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("7/arrays/**/*")}
  saved.save(toy_state.toy_state(7), toy_state.best(0.9, 7))
  saved.close()
  assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("7/arrays/**/*")} == before
  assert (saved.steps(), saved.best(toy_state.BY)) == ([7], 7)
  state, meta = saved.restore(7, toy_state.abstract(toy_state.toy_state(0)))
  toy_state.assert_same(state, toy_state.toy_state(7))
  assert meta["best"] == toy_state.best(0.9, 7)["best"]


def test_a_step_that_is_not_there(tmp_path):
  saved, place = (
    toy_state.save_all(tmp_path, {7: toy_state.META}),
    toy_state.toy_state(0),
  )
  with pytest.raises(errors.UserError, match="/8 is not there. .* 7"):
    saved.restore(8, toy_state.abstract(place))
  with pytest.raises(errors.UserError, match="/8 is not there. .* 7"):
    saved.param_reader(8)


def test_another_model_does_not_fit(tmp_path):
  saved = toy_state.save_all(tmp_path, {7: toy_state.META})
  place = toy_state.abstract(toy_state.toy_state(0))
  kernel = place.params["wi"]["kernel"]
  wide = jax.ShapeDtypeStruct((16, 12), np.float32, sharding=kernel.sharding)
  for params, reason in (
    ({**place.params, "wi": {"kernel": wide}}, "7 cannot be read"),
    ({"wi": place.params["wi"]}, "holds, and this run has not, params/norm/scale"),
    ({**place.params, "wo": place.params["wi"]}, "lacks params/wo/kernel"),
  ):
    other = dataclasses.replace(place, params=params)
    with pytest.raises(errors.UserError, match=reason):
      saved.restore(7, other)
    other = dataclasses.replace(other, average=None)
    with pytest.raises(errors.UserError, match="7 (does not fit|cannot be read)"):
      saved.restore(7, other)
  assert saved.steps() == [7]


@pytest.fixture
def small_files():
  """Lets no file grow beyond 100 kB, as a disk that is full."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
  yield
  resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_takes_no_more_leaves_what_was_whole(tmp_path, small_files):
  saved = checkpoints.Checkpoints(tmp_path)
  saved.save(toy_state.toy_state(1), toy_state.META)
  large = toy_state.toy_state(2)
  noise = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
  large.params["large"] = jax.device_put(noise, large.step.sharding)
  with pytest.raises(errors.UserError) as e:
    saved.save(large, toy_state.META)
    saved.wait()
  message = str(e.value)
  assert f"cannot write a checkpoint to {tmp_path}: File too large." in message
  assert "Complete checkpoints: 1. Free space" in message
  assert [p.name for p in tmp_path.iterdir()] == ["1"]  # its room is free again
  again, state = checkpoints.Checkpoints(tmp_path), toy_state.toy_state(1)
  assert again.steps() == [1]
  toy_state.assert_same(again.restore(1, toy_state.abstract(state))[0], state)


def test_a_directory_that_is_gone(tmp_path):
  saved = checkpoints.Checkpoints(tmp_path / "run")
  (tmp_path / "run").rmdir()
  (tmp_path / "run").write_text("a file now")
  with pytest.raises(errors.UserError, match="cannot write .* checkpoints: none"):
    saved.save(toy_state.toy_state(1), toy_state.META)

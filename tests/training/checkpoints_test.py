"""Tests of checkpoints: what is kept, and what comes back."""

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


@pytest.mark.parametrize(
  "scores,keep,kept,best",
  [
    ({1: None, 2: None, 3: None}, 1, [3], None),
    ({1: None, 2: None, 3: None}, 2, [2, 3], None),
    ({1: 0.5, 2: 0.9, 3: 0.7, 4: None, 5: 0.1}, 1, [2, 5], 2),
    ({1: 0.5, 2: 0.9, 3: 0.7, 4: None, 5: None}, 2, [2, 4, 5], 2),
    ({1: -3.0, 2: None, 3: -2.0}, 1, [3], 3),
    # Of equal scores the first is the best, as in the training loop.
    ({1: 0.0, 2: 0.0, 3: 0.0}, 1, [1, 3], 1),
  ],
  ids=str,
)
def test_the_latest_and_the_best_are_kept(tmp_path, scores, keep, kept, best):
  saved = toy_state.save_all(tmp_path / "made" / "checkpoints", scores, keep)
  assert saved.steps() == kept
  assert saved.latest() == max(scores)
  assert saved.best() == best


def test_scores_by_another_metric_do_not_rank(tmp_path):
  toy_state.save_all(tmp_path, {1: 90.0, 2: None})
  saved = checkpoints.Checkpoints(tmp_path, "errors", read_only=True)
  assert saved.best() is None
  saved = toy_state.save_all(tmp_path, {3: -0.5, 4: -0.7, 5: None}, ranked_by="errors")
  assert saved.steps() == [3, 5]
  assert saved.best() == 3


def test_an_absent_directory_is_read_as_empty_and_not_made(tmp_path):
  saved = checkpoints.Checkpoints(
    tmp_path / "none", toy_state.RANKED_BY, read_only=True
  )
  assert (saved.steps(), saved.latest(), saved.best()) == ([], None, None)
  assert not list(tmp_path.iterdir())


def test_what_was_saved_comes_back_on_any_mesh(tmp_path):
  saved, state = toy_state.save_all(tmp_path, {7: 0.5}), toy_state.toy_state(7)
  for mesh in ({}, {"data": 8}, {"tensor": 8}):
    place = toy_state.abstract(toy_state.toy_state(0, **mesh))
    restored, meta = saved.restore(7, place)
    toy_state.assert_same(restored, state)
    for x, expected in zip(
      jax.tree.leaves(restored), jax.tree.leaves(place), strict=True
    ):
      assert x.sharding == expected.sharding
    assert {k: meta[k] for k in toy_state.META} == toy_state.META
    toy_state.assert_same(saved.restore_params(7, place.params), state.params)


def test_training_goes_on_exactly_where_it_stopped(tmp_path):
  run = tiny_run.tiny_run("adafactor", data=2, fsdp=2, tensor=2)
  saved = checkpoints.Checkpoints(tmp_path, toy_state.RANKED_BY)
  state, _ = run.steps(run.start(), 2)
  saved.save(state, toy_state.META, None)
  # At once, and giving away the buffers that are being written.
  state, metrics = run.steps(state, 3)
  saved.close()
  saved = checkpoints.Checkpoints(tmp_path, toy_state.RANKED_BY)
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


def test_a_step_that_is_not_there(tmp_path):
  saved, place = toy_state.save_all(tmp_path, {7: None}), toy_state.toy_state(0)
  with pytest.raises(errors.UserError, match="8 cannot be read: .* not found"):
    saved.restore(8, toy_state.abstract(place))


def test_another_model_does_not_fit(tmp_path):
  saved, place = (
    toy_state.save_all(tmp_path, {7: None}),
    toy_state.abstract(toy_state.toy_state(0)),
  )
  kernel = place.params["wi"]["kernel"]
  wide = jax.ShapeDtypeStruct((16, 12), np.float32, sharding=kernel.sharding)
  for params in ({**place.params, "wi": {"kernel": wide}}, {"wi": place.params["wi"]}):
    with pytest.raises(errors.UserError, match="7 cannot be read"):
      saved.restore_params(7, params)


@pytest.fixture
def small_files():
  """Lets no file grow beyond 100 kB, as a disk that is full."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
  yield
  resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_takes_no_more_leaves_what_was_whole(tmp_path, small_files):
  saved = checkpoints.Checkpoints(tmp_path, toy_state.RANKED_BY)
  saved.save(toy_state.toy_state(1), toy_state.META, None)
  large = toy_state.toy_state(2)
  noise = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
  large.params["large"] = jax.device_put(noise, large.step.sharding)
  with pytest.raises(errors.UserError) as e:
    saved.save(large, toy_state.META, None)
    saved.wait()
  message = str(e.value)
  assert f"cannot write a checkpoint to {tmp_path}" in message
  assert "Complete checkpoints: 1. Free space" in message
  again, state = (
    checkpoints.Checkpoints(tmp_path, toy_state.RANKED_BY),
    toy_state.toy_state(1),
  )
  assert again.steps() == [1]
  toy_state.assert_same(again.restore(1, toy_state.abstract(state))[0], state)


def test_a_directory_that_is_gone(tmp_path):
  saved = checkpoints.Checkpoints(tmp_path / "run", toy_state.RANKED_BY)
  (tmp_path / "run").rmdir()
  (tmp_path / "run").write_text("a file now")
  with pytest.raises(errors.UserError, match="cannot write .* checkpoints: none"):
    saved.save(toy_state.toy_state(1), toy_state.META, None)

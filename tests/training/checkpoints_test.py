"""Tests of checkpoints: what is kept, read back, and never read back damaged."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from t5tune import errors
from t5tune.training import checkpoints
from tests.training import tiny_run, toy_state


def save_all(folder, scores: dict[int, float | None], keep: int = 1):
  """Saves a checkpoint of each step and returns those that were kept."""
  saved = checkpoints.Checkpoints(folder, keep)
  for step, score in scores.items():
    saved.save(toy_state.toy_state(step), toy_state.META, score)
  saved.close()
  return checkpoints.Checkpoints(folder, read_only=True)


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
  saved = save_all(tmp_path / "made" / "checkpoints", scores, keep)
  assert saved.steps() == kept
  assert saved.latest() == max(scores)
  assert saved.best() == best


def test_an_absent_directory_is_read_as_empty_and_not_made(tmp_path):
  saved = checkpoints.Checkpoints(tmp_path / "none", read_only=True)
  assert (saved.steps(), saved.latest(), saved.best()) == ([], None, None)
  assert not list(tmp_path.iterdir())


def test_what_was_saved_comes_back_on_any_mesh(tmp_path):
  saved, state = save_all(tmp_path, {7: 0.5}), toy_state.toy_state(7)
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
  saved = checkpoints.Checkpoints(tmp_path)
  state, _ = run.steps(run.start(), 2)
  saved.save(state, toy_state.META, None)
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


def test_a_step_that_is_not_there(tmp_path):
  saved, place = save_all(tmp_path, {7: None}), toy_state.toy_state(0)
  with pytest.raises(errors.UserError, match="8 cannot be read: .* not found"):
    saved.restore(8, toy_state.abstract(place))


def test_another_model_does_not_fit(tmp_path):
  saved, place = (
    save_all(tmp_path, {7: None}),
    toy_state.abstract(toy_state.toy_state(0)),
  )
  kernel = place.params["wi"]["kernel"]
  wide = jax.ShapeDtypeStruct((16, 12), np.float32, sharding=kernel.sharding)
  for params in ({**place.params, "wi": {"kernel": wide}}, {"wi": place.params["wi"]}):
    with pytest.raises(errors.UserError, match="7 cannot be read"):
      saved.restore_params(7, params)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A directory of two checkpoints, of which tests damage copies."""
  folder = tmp_path_factory.mktemp("whole")
  save_all(folder, {3: 0.25, 7: None})
  return folder


def files(folder: pathlib.Path, pattern: str) -> list[pathlib.Path]:
  found = sorted(p for p in folder.glob(pattern) if p.is_file())
  assert found, f"nothing matches {pattern}"
  return found


# Every file that a restore reads values from. The rest is orbax's own bookkeeping.
@pytest.mark.parametrize(
  "pattern", ["params/d/*", "opt_state/d/*", "meta/metadata", "params/manifest.ocdbt"]
)
def test_no_flipped_bit_is_restored(whole, tmp_path, pattern):
  place, state = toy_state.abstract(toy_state.toy_state(0)), toy_state.toy_state(7)
  rng = np.random.default_rng(0)
  shutil.copytree(whole, tmp_path / "copy")
  saved = checkpoints.Checkpoints(tmp_path / "copy", read_only=True)
  refused = 0
  for file in files(tmp_path / "copy" / "7", pattern):
    data = file.read_bytes()
    for position in rng.integers(0, len(data), 12):
      damaged = bytearray(data)
      damaged[position] ^= 1 << rng.integers(8)
      file.write_bytes(damaged)
      try:
        restored, meta = saved.restore(7, place)
      except errors.UserError as e:
        refused += 1
        assert str(tmp_path / "copy" / "7") in str(e)
        assert "Remove that directory to go on from step 3" in str(e)
      else:  # a byte that nobody reads
        toy_state.assert_same(restored, state)
        assert {k: meta[k] for k in toy_state.META} == toy_state.META
    file.write_bytes(data)
  assert refused >= 6
  toy_state.assert_same(saved.restore(7, place)[0], state)


def test_a_flipped_bit_in_a_value_names_the_parameter(whole, tmp_path, monkeypatch):
  # As a disk does that hands out wrong bytes with a right checksum of its own.
  place = toy_state.abstract(toy_state.toy_state(0))
  saved = checkpoints.Checkpoints(whole, read_only=True)
  read = saved._read

  def flipped(step, **items):
    restored = read(step, **items)
    kernel = restored.params["wi"]["kernel"]
    words = np.array(kernel).view(np.uint32)
    words[5, 3] ^= 1
    restored.params["wi"]["kernel"] = jax.device_put(
      words.view(np.float32), kernel.sharding
    )
    return restored

  monkeypatch.setattr(saved, "_read", flipped)
  with pytest.raises(errors.UserError, match=r"7 is damaged: .*'wi'.*'kernel'"):
    saved.restore(7, place)
  with pytest.raises(errors.UserError, match=r"7 is damaged: .*'wi'.*'kernel'"):
    saved.restore_params(7, place.params)


@pytest.mark.parametrize(
  "change", [(b"0.25", b"0.75"), (b"score", b"scorf"), (b"{", b"")]
)
def test_a_damaged_score_chooses_no_checkpoint(whole, tmp_path, change):
  shutil.copytree(whole, tmp_path / "copy")
  file = tmp_path / "copy" / "3" / "metrics" / "metrics"
  assert json.loads(file.read_text())["score"] == 0.25
  file.write_bytes(file.read_bytes().replace(*change))
  with pytest.raises(errors.UserError, match=f"{file}, is not as saved.*go on without"):
    checkpoints.Checkpoints(tmp_path / "copy", read_only=True)
  shutil.rmtree(tmp_path / "copy" / "3")  # what the message says
  assert checkpoints.Checkpoints(tmp_path / "copy", read_only=True).steps() == [7]


def test_a_save_that_was_cut_short_is_none(whole, tmp_path):
  shutil.copytree(whole, tmp_path / "copy")
  half = tmp_path / "copy" / "9.orbax-checkpoint-tmp"
  shutil.copytree(whole / "3", half)
  (half / "metrics" / "metrics").write_text("{")
  saved = checkpoints.Checkpoints(tmp_path / "copy")
  assert saved.steps() == [3, 7]
  saved.close()
  assert not half.exists()


def test_a_directory_that_cannot_be_written_names_what_is_there(tmp_path):
  saved = checkpoints.Checkpoints(tmp_path / "run")
  saved.save(toy_state.toy_state(1), toy_state.META, None)
  saved.wait()
  (tmp_path / "run").rename(tmp_path / "moved")
  (tmp_path / "run").write_text("a file now")
  with pytest.raises(
    errors.UserError, match="cannot write a checkpoint.*checkpoints: 1"
  ):
    saved.save(toy_state.toy_state(2), toy_state.META, None)
    saved.wait()

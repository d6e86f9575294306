"""Tests of checkpoints that are damaged: nothing wrong is ever read back."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from t5tune import errors
from t5tune.training import checkpoints
from tests.training import toy_state

# Of a read or write that fails, orbax drops the other half without awaiting it.
pytestmark = pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A directory of two checkpoints, of which tests damage copies."""
  folder = tmp_path_factory.mktemp("whole")
  toy_state.save_all(folder, {3: 0.25, 7: None})
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
  saved = checkpoints.Checkpoints(
    tmp_path / "copy", toy_state.RANKED_BY, read_only=True
  )
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
  saved = checkpoints.Checkpoints(whole, toy_state.RANKED_BY, read_only=True)
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
    checkpoints.Checkpoints(tmp_path / "copy", toy_state.RANKED_BY, read_only=True)
  shutil.rmtree(tmp_path / "copy" / "3")  # what the message says
  assert checkpoints.Checkpoints(
    tmp_path / "copy", toy_state.RANKED_BY, read_only=True
  ).steps() == [7]


def test_a_save_that_was_cut_short_is_none(whole, tmp_path):
  shutil.copytree(whole, tmp_path / "copy")
  half = tmp_path / "copy" / "9.orbax-checkpoint-tmp"
  shutil.copytree(whole / "3", half)
  (half / "commit_success.txt").unlink()
  (half / "metrics" / "metrics").write_text("{")
  saved = checkpoints.Checkpoints(tmp_path / "copy", toy_state.RANKED_BY)
  assert saved.steps() == [3, 7]
  saved.save(toy_state.toy_state(9), toy_state.META, None)
  saved.close()
  assert not half.exists()
  assert saved.steps() == [3, 9]

"""Tests of checkpoints that are damaged: nothing wrong is ever read back."""

import errno
import json
import pathlib
import re
import shutil

import jax
import numpy as np
import pytest

from t5tune import errors
from t5tune.training import checkpoint_files, checkpoints
from tests.training import toy_state

# Of a read that fails, orbax drops the other half without awaiting it.
pytestmark = pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A directory of two checkpoints, of which tests damage copies."""
  folder = tmp_path_factory.mktemp("whole") / "checkpoints"
  toy_state.save_all(folder, {3: toy_state.best(0.25, 3), 7: toy_state.best(0.25, 3)})
  return folder


@pytest.fixture
def copy(whole, tmp_path):
  shutil.copytree(whole, tmp_path / "checkpoints")
  return tmp_path / "checkpoints"


@pytest.fixture(scope="module")
def place():
  return toy_state.abstract(toy_state.toy_state(0))


def flip(path: pathlib.Path, position: int, bit: int = 0) -> None:
  damaged = bytearray(path.read_bytes())
  damaged[position] ^= 1 << bit
  path.write_bytes(damaged)


def test_every_flipped_bit_of_every_file_is_noticed(copy, place):
  rng = np.random.default_rng(0)
  saved = checkpoints.Checkpoints(copy, read_only=True)
  paths = [p for p in (copy / "7").rglob("*") if p.is_file() and p.stat().st_size]
  assert len(paths) > 5
  for path in paths:
    name, data = path.relative_to(copy / "7").as_posix(), path.read_bytes()
    for position in rng.integers(0, len(data), 4):
      flip(path, position, rng.integers(8))
      with pytest.raises(errors.UserError) as e:
        saved.restore(7, place)
      assert str(e.value).startswith(f"checkpoint {copy / '7'} is damaged: {name}")
      assert "Remove that directory to go on from step 3" in str(e.value)
      path.write_bytes(data)
  toy_state.assert_same(saved.restore(7, place)[0], toy_state.toy_state(7))


def largest(folder: pathlib.Path) -> pathlib.Path:
  return max(
    (p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
  )


def cut(folder):
  path = largest(folder)
  path.write_bytes(path.read_bytes()[:-7])


def half_delete(folder):
  for path in sorted(p for p in folder.rglob("*") if p.is_file())[::2]:
    path.unlink()


DAMAGES = {
  "cut": (cut, "has .* bytes of"),
  "flipped": (
    lambda folder: flip(largest(folder), 40),
    "is not as saved .*from byte 0",
  ),
  "half deleted": (half_delete, "is missing"),
  "emptied": (lambda folder: [shutil.rmtree(folder), folder.mkdir()], "is missing"),
  "no arrays": (lambda folder: shutil.rmtree(folder / "arrays"), "is missing"),
  "no list": (lambda folder: (folder / "files.json").unlink(), "files.json.* missing"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_one_before_a_damaged_one_is_used(copy, place, kind):
  damage, reason = DAMAGES[kind]
  damage(copy / "7")
  told, saved = [], checkpoints.Checkpoints(copy)
  restored, meta = saved.restore_latest(place, told.append)
  toy_state.assert_same(restored, toy_state.toy_state(3))
  assert meta["best"] == toy_state.best(0.25, 3)["best"]
  aside = copy.parent / "damaged" / "7"
  assert len(told) == 1 and aside.is_dir()
  assert told[0].startswith(f"checkpoint {copy / '7'} is damaged: ")
  assert told[0].endswith(f"It is now {aside}; going on from step 3.")
  assert re.search(reason, told[0])
  assert saved.steps() == [3] and saved.best(toy_state.BY) == 3
  # The same step, damaged once more: nothing is overwritten.
  saved.save(toy_state.toy_state(7), toy_state.best(0.25, 3))
  saved.close()
  damage(copy / "7")
  checkpoints.Checkpoints(copy).restore_latest(place, told.append)
  assert (copy.parent / "damaged" / "7-2").is_dir() and aside.is_dir()


def test_where_none_is_whole_the_user_decides(copy, place):
  for step in ("3", "7"):
    flip(largest(copy / step), 40)
  told, saved = [], checkpoints.Checkpoints(copy)
  with pytest.raises(
    errors.UserError, match="no checkpoint in .* is whole.* Start again"
  ):
    saved.restore_latest(place, told.append)
  assert [line[-30:].split("; ")[1] for line in told] == [
    "going on from step 3.",
    "none left.",
  ]
  assert saved.restore_latest(place, told.append) is None


def test_what_does_not_fit_or_cannot_be_read_is_not_put_aside(copy, place, monkeypatch):
  saved = checkpoints.Checkpoints(copy)
  other = {"wi": place.params["wi"]}
  with pytest.raises(errors.UserError, match="7 does not fit"):
    saved.restore_latest(place.__class__(place.step, other, place.opt_state), print)

  def refuse(path, block):
    raise OSError(errno.ESTALE, "Stale file handle")

  monkeypatch.setattr(checkpoint_files, "_crc32", refuse)
  with pytest.raises(errors.UserError, match="7 cannot be read: .*Stale file handle"):
    saved.restore_latest(place, print)
  assert saved.steps() == [3, 7]


def test_a_file_on_a_broken_disk_is_damaged(copy, place, monkeypatch):
  read = checkpoint_files._crc32

  def broken(path, block):
    if "7/arrays" in str(path):
      raise OSError(errno.EIO, "Input/output error")
    return read(path, block)

  monkeypatch.setattr(checkpoint_files, "_crc32", broken)
  told = []
  restored, _ = checkpoints.Checkpoints(copy).restore_latest(place, told.append)
  assert int(restored.step) == 3 and "cannot be read (Input/output error)" in told[0]


def test_a_flipped_bit_in_a_value_names_the_parameter(whole, place, monkeypatch):
  # As memory does that hands wrong bytes to a disk which then keeps them well.
  saved = checkpoints.Checkpoints(whole, read_only=True)
  verify = saved._verify

  def flipped(step, tree, meta):
    scale = np.array(tree["params"]["norm"]["scale"])
    scale.view(np.uint32)[5] ^= 1
    damaged = jax.make_array_from_callback(
      scale.shape, place.params["norm"]["scale"].sharding, lambda i: scale[i]
    )
    verify(step, {**tree, "params": {"norm": {"scale": damaged}}}, meta)

  monkeypatch.setattr(saved, "_verify", flipped)
  for read in (
    lambda: saved.restore(7, place),
    lambda: saved.restore_params(7, place.params),
    lambda: saved.param_reader(7)(("norm", "scale")),
  ):
    with pytest.raises(
      errors.UserError, match="7 is damaged: params/norm/scale not as"
    ):
      read()


@pytest.mark.parametrize(
  "change", [(b"0.25", b"0.75"), (b"score", b"scorf"), (b"{", b"")]
)
def test_a_damaged_score_chooses_no_checkpoint(copy, change):
  file = copy / "7" / "meta.json"
  assert json.loads(file.read_text())["best"]["score"] == 0.25
  file.write_bytes(file.read_bytes().replace(*change))
  saved = checkpoints.Checkpoints(copy, read_only=True)
  assert saved.best(toy_state.BY) == 3  # as the one before says
  with pytest.raises(errors.UserError, match="7 is damaged: meta.json"):
    saved.param_reader(7)


@pytest.mark.parametrize("left", ["9.partial", "3.deleted"])
def test_what_was_cut_short_is_none(copy, left):
  shutil.copytree(copy / "3", copy / left)
  (copy / left / "files.json").unlink()
  assert checkpoints.Checkpoints(copy, read_only=True).steps() == [3, 7]
  assert (copy / left).exists()
  saved = checkpoints.Checkpoints(copy)
  assert saved.steps() == [3, 7] and not (copy / left).exists()
  saved.save(toy_state.toy_state(9), toy_state.best(0.25, 3))
  saved.close()
  assert saved.steps() == [3, 9]

"""Damaged token stores: no wrong token is ever read, and the way out is named."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest
from store_data import examples, write

from t5tune.data import token_store
from t5tune.errors import UserError

FILES = (
  *("manifest.json", "lengths.npy", "keys.npy", "crc32.npy", "counts.npy"),
  *("tokens.bin", "rows.jsonl"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
  path = tmp_path_factory.mktemp("whole") / "s"
  with token_store.writing(path, keep_rows=True) as writer:
    for i, (inputs, targets) in enumerate(examples(40, longest=30)):
      writer.append(inputs, targets, {"text": f"a text that is long {i}"}, i)
    writer.manifest = {"task": "t", "lost_characters": {"\n": 3, "{": 2}}
  return path


@pytest.fixture
def store(whole, tmp_path) -> pathlib.Path:
  """A copy that a test may damage."""
  return shutil.copytree(whole, tmp_path / "copy")


def contents(path: pathlib.Path) -> dict:
  """Reads all that a store has."""
  store = token_store.TokenStore(path)
  return {
    "tokens": [[x.tolist() for x in pair] for pair in store.read(range(len(store)))],
    "keys": store.keys.tolist(),
    "rows": store.rows,
    "counts": store.target_token_counts,
    "manifest": store.manifest,
  }


def flip(file: pathlib.Path, bit: int) -> None:
  data = bytearray(file.read_bytes())
  data[bit // 8] ^= 1 << bit % 8
  file.write_bytes(data)


@pytest.mark.parametrize("name", FILES)
def test_no_flipped_bit_is_read(whole, store, name):
  assert token_store.problems(store) == []
  original, file = contents(whole), store / name
  bits = 8 * file.stat().st_size
  for bit in np.random.default_rng(0).integers(0, bits, 60).tolist():
    flip(file, bit)
    try:
      same = contents(store) == original
    except UserError as e:
      assert str(store) in str(e) and "delete that directory and start again" in str(e)
      found = token_store.problems(store)
      assert len(found) == 1 and str(file) in found[0]
    else:
      # JSON has two ways to write some values.
      assert same and name == "manifest.json"
    flip(file, bit)
  assert token_store.problems(store) == []


def test_the_damaged_example_is_named_and_the_others_are_read(store):
  lengths = token_store.TokenStore(store).lengths.sum(axis=1)
  flip(store / "tokens.bin", 8 * int(2 * lengths[:17].sum()))
  opened = token_store.TokenStore(store)
  assert len(opened.read([0, 16, 18, 39])) == 4
  with pytest.raises(UserError, match=r"example 17 in tokens\.bin fails its checksum"):
    opened.read([0, 17])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["missing", "empty", "cut"])
def test_a_store_half_deleted_does_not_open(store, name, how):
  file = store / name
  data = file.read_bytes()
  if how == "missing":
    file.unlink()
  else:
    file.write_bytes(data[:-1] if how == "cut" else b"")
  with pytest.raises(UserError, match="delete that directory") as caught:
    token_store.TokenStore(store)
  assert str(store) in str(caught.value) and name in str(caught.value)
  assert [name in problem for problem in token_store.problems(store)] == [True]


def test_every_damaged_file_is_told(store):
  (store / "keys.npy").unlink()
  flip(store / "tokens.bin", 100)
  found = token_store.problems(store)
  assert len(found) == 2
  assert any("keys.npy cannot be read: No such file" in problem for problem in found)
  assert any("tokens.bin fails its checksum" in problem for problem in found)


def test_a_store_that_is_not_there_is_told(tmp_path):
  (found,) = token_store.problems(tmp_path / "none")
  assert "No such file" in found


@pytest.mark.parametrize("text", ["[]", "3", "null", "{}", '{"format": 1}', "{"])
def test_another_manifest_is_none(store, text):
  (store / "manifest.json").write_text(text)
  with pytest.raises(UserError, match="delete that directory"):
    token_store.TokenStore(store)
  assert len(token_store.problems(store)) == 1


def test_an_older_format_is_named(store):
  values = json.loads((store / "manifest.json").read_text()) | {"format": 1}
  (store / "manifest.json").write_text(json.dumps(values))
  with pytest.raises(UserError, match="its format is 1, not 2"):
    token_store.TokenStore(store)


def test_a_rebuilt_store_is_read_anew(tmp_path):
  first, second = examples(5, seed=1), examples(5, seed=2, first=50)
  for made in (first, second):
    path = write(tmp_path / "s", made)
    inputs, targets = token_store.TokenStore(path)[3]
    assert (inputs.tolist(), targets.tolist()) == tuple(x.tolist() for x in made[3])
    shutil.rmtree(path)
  assert os.listdir(tmp_path) == []

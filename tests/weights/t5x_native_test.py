"""T5X's native layout: round trips, the spellings T5X has had, and damage."""

import dataclasses
import json
import math
import shutil

import flax.serialization
import ml_dtypes
import numpy as np
import pytest
import t5x_files
from t5x_files import refused
from tiny_weights import FLAN, T5_1_0, assert_equal, in_memory, read_all, tensors

from t5tune import errors
from t5tune.weights import names, t5x, t5x_native

UNTIED_RELU = dataclasses.replace(FLAN, mlp_activations=("relu",))
TIED_GATED = dataclasses.replace(FLAN, logits_via_embedding=True)
SCALE = "target.encoder.encoder_norm.scale"
NAME = "encoder/encoder_norm/scale"


@pytest.fixture
def made():
  return tensors(FLAN)


@pytest.fixture
def path(tmp_path, made):
  return t5x_files.write(tmp_path, made)


def edit(path, change):
  """Changes the tree of the file `checkpoint`."""
  file = path / "checkpoint"
  tree = flax.serialization.msgpack_restore(file.read_bytes())
  tree = change(tree) or tree
  file.write_bytes(flax.serialization.msgpack_serialize(tree))


def scale_of(tree):
  return tree["optimizer"]["target"]["encoder"]["encoder_norm"]


@pytest.mark.parametrize("dtype", [None, "float32", "bfloat16"])
@pytest.mark.parametrize("config", [FLAN, T5_1_0, UNTIED_RELU, TIED_GATED])
def test_what_is_written_is_read(tmp_path, config, dtype):
  made = tensors(config)
  opened = t5x.open_checkpoint(str(t5x_files.write(tmp_path, made, config, dtype)))
  assert opened.config == config and opened.step == 7
  assert_equal(read_all(opened), {n: v.astype(dtype or "f4") for n, v in made.items()})


def test_bfloat16_stays_unless_told_otherwise(tmp_path, made):
  half = {n: v.astype(ml_dtypes.bfloat16) for n, v in made.items()}
  kept = t5x.open_checkpoint(str(t5x_files.write(tmp_path, half)))
  assert_equal(read_all(kept), half)
  wide = t5x_files.write(tmp_path, half, dtype="float32", step=8)
  whole = {n: v.astype("f4") for n, v in half.items()}
  assert_equal(read_all(t5x.open_checkpoint(str(wide))), whole)


def test_progress_counts_tensors_and_the_marker_comes_last(tmp_path, made):
  seen = []

  def progress(done, total):
    seen.append((done, total, (tmp_path / "new/checkpoint").exists()))

  t5x.write_native(in_memory(FLAN, made), tmp_path / "new", None, progress)
  assert seen == [(i + 1, len(made), False) for i in range(len(made))]
  assert (tmp_path / "new/checkpoint").exists()


@pytest.mark.parametrize("shape", [(32128, 4096), (4096, 10240), (97, 1 << 20), (7,)])
def test_chunks_divide_evenly_and_are_at_most_64_mib(shape):
  chunks = t5x_native.chunk_shape(shape, 4)
  assert not any(n % c for n, c in zip(shape, chunks, strict=True))
  assert 16 << 20 < math.prod(chunks) * 4 <= 64 << 20 or chunks == shape


@pytest.mark.parametrize("changes", [{"relpos_max_distance": 64}, {"tied": True}])
def test_what_t5x_cannot_compute_is_not_written(tmp_path, made, changes):
  if "tied" in changes:
    changes = {"scale_decoder_outputs": True}  # of an output of its own
  config = dataclasses.replace(FLAN, **changes)
  with pytest.raises(errors.UserError, match=next(iter(changes))):
    t5x_files.write(tmp_path, made, config)
  assert not list(tmp_path.iterdir())


def test_what_is_in_the_way_is_named(path, made):
  with pytest.raises(OSError, match=r"target\..*ALREADY_EXISTS"):
    t5x_files.write(path.parent, made)


def test_inline_arrays_of_both_kinds_and_none(path, made):
  def inline(tree):
    half = made[NAME].astype(ml_dtypes.bfloat16)
    scale_of(tree)["scale"] = half
    tree["optimizer"]["state"]["step"] = np.int32(9)  # ext type 3, as old files have
    tree["optimizer"]["target"]["unused"] = None  # as MultiOptimizer leaves

  edit(path, inline)
  shutil.rmtree(path / SCALE)
  opened = t5x.open_checkpoint(str(path))
  assert opened.step == 9
  assert_equal(read_all(opened), made | {NAME: made[NAME].astype(ml_dtypes.bfloat16)})


def test_arrays_without_zarray_take_it_from_the_spec(path, made):
  (path / SCALE / ".zarray").unlink()
  assert_equal(read_all(t5x.open_checkpoint(str(path))), made)
  assert not (path / SCALE / ".zarray").exists()


def test_version_2_has_bfloat16_as_uint16(path, made):
  half = made[NAME].astype(ml_dtypes.bfloat16)
  file = path / SCALE / ".zarray"
  file.write_text(json.dumps(json.loads(file.read_text()) | {"dtype": "<u2"}))
  zarray = json.loads(file.read_text()) | {"compressor": None}
  file.write_text(json.dumps(zarray))
  (path / SCALE / "0").write_bytes(half.tobytes())
  refused(path, NAME, "dtype uint16")
  edit(path, lambda tree: tree | {"version": 2})
  assert_equal(read_all(t5x.open_checkpoint(str(path))), made | {NAME: half})


def test_damaged_files_are_named(path):
  whole = (path / "checkpoint").read_bytes()
  for content in (whole[:-20], whole + b"x", b"", b"\xff"):
    (path / "checkpoint").write_bytes(content)
    refused(path, "checkpoint", "another copy" if content != b"\xff" else "version")
  (path / "checkpoint").write_bytes(whole)
  chunk = (path / SCALE / "0").read_bytes()
  (path / SCALE / "0").write_bytes(chunk[:-9])
  refused(path, NAME, f"{SCALE}/0", "another copy")
  (path / SCALE / "0").unlink()  # T5X has no fill value: not zeros
  refused(path, NAME, f"{SCALE}/0", "missing")
  shutil.rmtree(path / SCALE)
  refused(path, NAME, SCALE, "missing")


@pytest.mark.parametrize(
  ("change", "words"),
  [
    (lambda t: t | {"version": 1}, ["version 1", "save it anew"]),
    (lambda t: t | {"version": 4}, ["version 4"]),
    (lambda t: t["optimizer"], ["layout", "save it anew"]),
    (lambda t: {"params": t["optimizer"]["state"]}, ["version 0", "['params']"]),
    (lambda t: t["optimizer"].pop("target") and None, ["optimizer/target"]),
    (lambda t: t["optimizer"].pop("state") and None, ["optimizer/state/step"]),
    (lambda t: scale_of(t)["scale"].update(driver="n5"), [NAME, "'n5'"]),
    (lambda t: scale_of(t)["scale"].update(kvstore={}), [NAME, "where it lies"]),
    (lambda t: scale_of(t)["scale"]["metadata"].pop("shape") and None, [NAME, "shape"]),
    (lambda t: scale_of(t)["scale"]["metadata"].update(shape=[8]), [NAME, "(8,)"]),
    (lambda t: scale_of(t).update(scale="PLACEHOLDER://x"), [NAME, "PLACEHOLDER"]),
    (lambda t: scale_of(t).update(scale=np.ones(16, int)), [NAME, "int64"]),
    (lambda t: scale_of(t).update(scale=np.ones(16) / 0), [NAME, "infinite"]),
    (lambda t: scale_of(t).pop("scale") and None, [NAME, "missing"]),
    (lambda t: scale_of(t).update(bias=np.ones(16, "f4")), ["encoder_norm/bias"]),
    (
      lambda t: t["optimizer"]["target"].pop("encoder") and None,
      ["decoder-only language model"],
    ),
  ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_damaged_trees_are_named(path, change, words):
  edit(path, change)
  refused(path, *words)


def test_the_listed_shape_must_be_the_stored_one(path):
  file = path / SCALE / ".zarray"
  file.write_text(json.dumps(json.loads(file.read_text()) | {"shape": [1 << 40]}))
  refused(path, NAME, str(1 << 40), f"({FLAN.emb_dim},)")


def test_every_parameter_has_its_directory(path):
  folders = {f"target.{n.replace('/', '.')}" for n in names.shapes(FLAN)}
  assert {p.name for p in path.iterdir()} == folders | {"checkpoint"}

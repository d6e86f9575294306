"""T5X's Orbax layout, written here by Orbax itself."""

import shutil

import flax.traverse_util
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from t5x_files import refused
from tiny_weights import FLAN, assert_equal, read_all, tensors

from t5tune.weights import t5x


def write(folder, made, database=True, step=7):
  """Writes `folder/checkpoint_<step>` with the tree that T5X gives Orbax."""
  path = folder / f"checkpoint_{step}"
  tree = {
    "target": flax.traverse_util.unflatten_dict(made, sep="/"),
    "state": {
      "step": np.asarray(step, np.int32),
      "param_states": {"encoder": {"v": np.zeros(3, np.float32)}},
    },
  }
  handler = ocp.PyTreeCheckpointHandler(use_ocdbt=database)
  with ocp.Checkpointer(handler) as checkpointer:
    checkpointer.save(path / "state", tree)
  (path / "dataset").mkdir()
  return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  return write(tmp_path_factory.mktemp("model"), tensors(FLAN))


@pytest.mark.parametrize("database", [True, False])
def test_both_stores_of_orbax(tmp_path, database):
  made = tensors(FLAN)
  made["encoder/encoder_norm/scale"] = np.ones(16, ml_dtypes.bfloat16)
  path = write(tmp_path, made, database, step=12)
  assert t5x.is_checkpoint(str(path)) and t5x.is_checkpoint(str(tmp_path))
  opened = t5x.open_checkpoint(str(tmp_path))
  assert opened.origin == str(path)
  assert opened.step == 12 and opened.config == FLAN
  assert_equal(read_all(opened), made)


def test_a_database_without_its_data(saved, tmp_path):
  path = shutil.copytree(saved, tmp_path / saved.name)
  for folder in ("d", "ocdbt.process_0"):
    shutil.rmtree(path / "state" / folder, ignore_errors=True)
  refused(path, "cannot be read")


def test_a_cut_database(saved, tmp_path):
  path = shutil.copytree(saved, tmp_path / saved.name)
  (path / "state/manifest.ocdbt").write_bytes(b"\x0c")
  refused(path, "state", "cannot be read")


def test_an_unfinished_checkpoint(saved, tmp_path):
  path = shutil.copytree(saved, tmp_path / saved.name)
  (path / "state/manifest.ocdbt").unlink()  # the last that a save writes
  refused(path, "holds no parameters", "unfinished")


@pytest.mark.parametrize(
  ("file", "content", "words"),
  [
    ("target.encoder.encoder_norm.scale/0", None, ["encoder/encoder_norm/scale", "/0"]),
    ("target.encoder.encoder_norm.scale/0", b"x", ["encoder/encoder_norm/scale"]),
    ("target.encoder.encoder_norm.scale/.zarray", None, ["encoder_norm", "missing"]),
    ("target.encoder.encoder_norm.scale/.zarray", b"{", ["encoder_norm", ".zarray"]),
    ("state.step/0", None, ["the step (state/state.step)"]),
    ("state.step/.zarray", None, ["the step (state/state.step)"]),
  ],
)
def test_damaged_arrays_are_named(tmp_path, file, content, words):
  path = write(tmp_path, tensors(FLAN), database=False)
  file = path / "state" / file
  if content is None:
    file.unlink()
  else:
    file.write_bytes(content)
  refused(path, *words)

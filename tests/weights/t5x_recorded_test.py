"""What T5X itself wrote, read bit for bit, and written again in the same bytes."""

import json

import flax.serialization
import numpy as np
import pytest
from tiny_weights import assert_equal, read_all

from t5tune.weights import t5x, t5x_orbax
from tests.models.recorded import CONFIG, fixture

FLOAT32 = [
  "",
  "inference_only",
  "orbax",
  "variants/sharded2",
  "variants/spec_gcs",
  "variants/spec_gfile",
  "variants/spec_toplevel_path",
]
MODELS = ["t5x_tiny_a", "t5x_tiny_b"]


def opened(model: str, kind: str):
  """Opens a recorded checkpoint; returns it with the parameters it was made of."""
  with np.load(fixture(model) / "params.npz") as file:
    params = dict(file)
  path = fixture(model) / kind if kind else fixture(model)
  if not path.is_dir():
    pytest.skip(f"{model} was recorded without {kind}")
  return t5x.open_checkpoint(str(path / "checkpoint_10")), params


@pytest.mark.parametrize("kind", FLOAT32)
@pytest.mark.parametrize("model", MODELS)
def test_every_layout_gives_the_recorded_parameters(model, kind):
  source, params = opened(model, kind)
  assert_equal(read_all(source), params)
  assert source.step == 10 and source.config == CONFIG and not source.described


@pytest.mark.parametrize("model", MODELS)
def test_bfloat16_is_read_as_stored(model):
  source, params = opened(model, "bf16")
  bfloat16 = {n: np.asarray(v, "bfloat16") for n, v in params.items()}
  assert_equal(read_all(source), bfloat16)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_directory_means_its_checkpoint(model):
  source, params = opened(model, "")
  whole = t5x.open_checkpoint(str(fixture(model)) + "/")
  assert whole.origin == source.origin
  assert t5x.is_checkpoint(str(fixture(model)))
  assert t5x.is_checkpoint(str(fixture(model) / "orbax"))
  assert not t5x.is_checkpoint(str(fixture(model) / "orbax/checkpoint_10/state"))
  assert_equal(read_all(whole), params)


def files(path):
  return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


def test_what_is_written_has_the_bytes_that_t5x_writes(tmp_path):
  recorded = fixture("t5x_tiny_a") / "inference_only" / "checkpoint_10"
  source = t5x.open_checkpoint(str(recorded))
  t5x.write_native(source, tmp_path / "new", None, lambda done, total: None)
  assert files(tmp_path / "new") == files(recorded)
  made = (tmp_path / "new/checkpoint").read_bytes()
  assert made == (recorded / "checkpoint").read_bytes()
  for name in files(recorded):
    if name.endswith(".zarray"):
      made = json.loads((tmp_path / "new" / name).read_text())
      assert made == json.loads((recorded / name).read_text()), name


def test_written_bfloat16_has_the_form_of_t5x(tmp_path):
  recorded = fixture("t5x_tiny_a") / "bf16" / "checkpoint_10"
  source, _ = opened("t5x_tiny_a", "inference_only")
  t5x.write_native(source, tmp_path / "new", "bfloat16", lambda done, total: None)
  trees = [
    flax.serialization.msgpack_restore((path / "checkpoint").read_bytes())["optimizer"]
    for path in (tmp_path / "new", recorded)
  ]
  assert trees[0]["target"] == trees[1]["target"]
  for name in files(tmp_path / "new"):
    if name.endswith(".zarray"):
      made = json.loads((tmp_path / "new" / name).read_text())
      assert made == json.loads((recorded / name).read_text()), name


def test_recorded_orbax_is_told_by_its_markers():
  path = fixture("t5x_tiny_a") / "orbax" / "checkpoint_10"
  assert all((path / marker).is_file() for marker in t5x_orbax.MARKERS)

"""INIT: where weights come from, what architecture they bring, and what is said."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
import tiny_weights
from tiny_weights import FLAN, tensors, write_hf

from t5tune import convert, partitioning
from t5tune.errors import UserError
from t5tune.training import train_state
from t5tune.weights import names, pretrained


@pytest.fixture
def hf(tmp_path):
  write_hf(tmp_path / "hf", tensors(FLAN))
  return tmp_path / "hf"


def test_scratch_has_none():
  assert pretrained.open_weights("scratch") is None


@pytest.mark.parametrize("to", ["hf", "t5x", "t5tune"])
def test_every_format_is_told_by_its_files(hf, tmp_path, to):
  assert convert.main([str(hf), str(tmp_path / "out"), "--to", to]) == 0
  opened = pretrained.open_weights(str(tmp_path / "out"))
  assert opened.described == (to != "t5x")
  tiny_weights.assert_equal(tiny_weights.read_all(opened), tensors(FLAN))


def test_parameters_lie_on_the_mesh_as_the_models(hf):
  opened = pretrained.open_weights(str(hf))
  model = train_state.Model(opened.config)
  mesh = partitioning.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
  params = pretrained.params(opened, model, mesh)
  places = model.abstract_params(mesh)
  assert jax.tree.structure(params) == jax.tree.structure(places)
  for x, place in zip(jax.tree.leaves(params), jax.tree.leaves(places), strict=True):
    assert (x.shape, x.dtype, x.sharding) == (place.shape, place.dtype, place.sharding)
  made = tensors(FLAN)
  found = params["decoder"]["layers"]["mlp"]["wo"]["kernel"]
  for i in range(3):
    wanted = made[f"decoder/layers_{i}/mlp/wo/kernel"]
    np.testing.assert_array_equal(found[i], wanted)
  np.testing.assert_array_equal(
    params["token_embedder"]["embedding"], made[names.EMBEDDING]
  )


def test_what_config_json_says_counts(hf):
  opened = pretrained.open_weights(str(hf))
  given = dataclasses.replace(
    FLAN, emb_dim=512, vocab_size=None, dropout_rate=0.3, dtype="bfloat16"
  )
  made, told = pretrained.architecture(opened, given)
  assert made == dataclasses.replace(FLAN, dropout_rate=0.3, dtype="bfloat16")
  assert told == ["emb_dim = 16 (gin: 512)"]
  assert pretrained.architecture(opened, FLAN) == (FLAN, [])


def test_shapes_are_checked_against_gin(hf, tmp_path):
  convert.main([str(hf), str(tmp_path / "t5x"), "--to", "t5x"])
  opened = pretrained.open_weights(str(tmp_path / "t5x"))
  given = dataclasses.replace(FLAN, vocab_size=None, relpos_max_distance=64)
  made, _ = pretrained.architecture(opened, given)
  assert made == dataclasses.replace(FLAN, relpos_max_distance=64)
  wide = dataclasses.replace(FLAN, mlp_dim=32)
  words = r"mlp/wi_0/kernel has shape \(16, 24\), the architecture .* \(16, 32\)"
  with pytest.raises(UserError, match=words):
    pretrained.architecture(opened, wide)


def test_what_holds_no_weights(tmp_path):
  (tmp_path / "notes.txt").write_text("")
  with pytest.raises(UserError, match=r"no config.json .* It holds notes.txt"):
    pretrained.open_weights(str(tmp_path))
  with pytest.raises(UserError, match="is a file; name the directory"):
    pretrained.open_weights(str(tmp_path / "notes.txt"))
  for init in (str(tmp_path / "a" / "b"), ""):
    with pytest.raises(UserError, match="INIT = .*no such directory"):
      pretrained.open_weights(init)


def test_the_vocabulary_beside_the_weights(hf, tmp_path, vocabulary):
  with pytest.raises(
    UserError, match="VOCABULARY is not set, and INIT = 'scratch' brings none"
  ):
    pretrained.vocabulary_path("scratch")
  with pytest.raises(
    UserError, match="no spiece.model beside its weights. Or name the"
  ):
    pretrained.vocabulary_path(str(hf))
  (hf / "tokenizer.json").write_text("{}")
  with pytest.raises(UserError, match="tokenizer.json cannot be used: fetch spiece"):
    pretrained.vocabulary_path(str(hf))
  (hf / "spiece.model").write_bytes(vocabulary.read_bytes())
  assert pretrained.vocabulary_path(str(hf)) == hf / "spiece.model"
  convert.main([str(hf), str(tmp_path / "own"), "--to", "t5tune"])
  for path in (tmp_path / "own", tmp_path / "own" / "checkpoints" / "0"):
    found = pathlib.Path(pretrained.vocabulary_path(str(path)))
    assert found == tmp_path / "own" / "spiece.model"


def test_a_checkpoint_of_a_run(finished):
  latest = pretrained.open_weights(str(finished))
  assert latest.step == 6
  steps = sorted(int(p.name) for p in (finished / "checkpoints").glob("[0-9]*"))
  early = pretrained.open_weights(str(finished / "checkpoints" / str(steps[0])))
  assert early.step == steps[0]
  name = "encoder/encoder_norm/scale"
  assert not np.array_equal(early.tensor(name), latest.tensor(name))
  recorded = json.loads((finished / "run.json").read_text())["model"]
  assert latest.config.emb_dim == recorded["emb_dim"]
  with pytest.raises(UserError, match="no such directory"):
    pretrained.open_weights(str(finished / "checkpoints" / "99"))

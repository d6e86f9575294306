"""Hugging Face checkpoints in every form that exists, and in every kind of damage."""

import json

import ml_dtypes
import numpy as np
import pytest
import tiny_weights
from tiny_weights import FLAN, T5_1_0, read_all, tensors, write_hf

from t5tune.errors import UserError
from t5tune.weights import huggingface, names

V5_UNTIED = {"tie_word_embeddings": True, "scale_decoder_outputs": False}


@pytest.mark.parametrize("written_by", [{}, V5_UNTIED], ids=["4", "5"])
@pytest.mark.parametrize("shards", [1, 3])
def test_an_untied_checkpoint(tmp_path, written_by, shards):
  made = tensors(FLAN)
  write_hf(tmp_path / "hf", made, shards, **written_by)
  opened = huggingface.open_directory(tmp_path / "hf")
  assert opened.config == FLAN
  assert not opened.config.scales_decoder_outputs
  tiny_weights.assert_equal(read_all(opened), made)


@pytest.mark.parametrize(
  "written_by, scaled",
  [
    ({"tie_word_embeddings": None}, True),
    ({"tie_word_embeddings": True, "scale_decoder_outputs": True}, True),
    ({"tie_word_embeddings": True, "scale_decoder_outputs": False}, False),
  ],
)
@pytest.mark.parametrize("copied", [False, True])
def test_a_tied_checkpoint(tmp_path, written_by, scaled, copied):
  made = tensors(T5_1_0)
  embedding = made[names.EMBEDDING]
  more = {"lm_head.weight": embedding} if copied else {}
  write_hf(tmp_path / "hf", made, feed_forward_proj="relu", more=more, **written_by)
  opened = huggingface.open_directory(tmp_path / "hf")
  assert opened.config.logits_via_embedding
  assert opened.config.scales_decoder_outputs == scaled
  assert opened.config.mlp_activations == ("relu",)
  tiny_weights.assert_equal(read_all(opened), made)


def test_copies_and_dead_parameters_are_passed_over(tmp_path):
  made = tensors(FLAN)
  embedding = made[names.EMBEDDING]
  dead = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
  more = {dead: np.full((32, 2), 7.0, np.float32)}
  more |= {f"{s}.embed_tokens.weight": embedding for s in ("encoder", "decoder")}
  write_hf(tmp_path / "hf", made, more=more)
  tiny_weights.assert_equal(read_all(huggingface.open_directory(tmp_path / "hf")), made)


@pytest.mark.parametrize(
  "stored, read", [(ml_dtypes.bfloat16, ml_dtypes.bfloat16), (np.float16, np.float32)]
)
def test_halved_dtypes(tmp_path, stored, read):
  made = {name: value.astype(stored) for name, value in tensors(FLAN).items()}
  write_hf(tmp_path / "hf", made)
  wanted = {name: value.astype(read) for name, value in made.items()}
  tiny_weights.assert_equal(
    read_all(huggingface.open_directory(tmp_path / "hf")), wanted
  )


def test_layers_default_to_the_encoders(tmp_path):
  made = {k: v for k, v in tensors(FLAN).items() if "decoder/layers_2" not in k}
  write_hf(tmp_path / "hf", made, num_decoder_layers=None)
  assert huggingface.open_directory(tmp_path / "hf").config.num_decoder_layers == 2


def test_the_vocabulary_beside_the_weights(tmp_path):
  write_hf(tmp_path / "hf", tensors(FLAN))
  assert huggingface.open_directory(tmp_path / "hf").vocabulary is None
  (tmp_path / "hf" / "spiece.model").write_bytes(b"model")
  found = huggingface.open_directory(tmp_path / "hf").vocabulary
  assert found == tmp_path / "hf" / "spiece.model"


ALIEN = {"encoder.block.7.layer.0.SelfAttention.q.weight": np.ones((8, 16), "f4")}
CONFIGS = {
  "a BERT": ({"model_type": "bert"}, "model_type is 'bert'"),
  "an mT5": ({"model_type": "mt5", "vocab_size": 250112}, "model_type is 'mt5'"),
  "an encoder": ({"architectures": ["T5EncoderModel"]}, "not an encoder-decoder"),
  "no size": ({"d_ff": None}, "d_ff is null"),
  "a text": ({"d_ff": "24"}, 'd_ff is "24"'),
  "another block": ({"feed_forward_proj": "gated-silu"}, "'gated-gelu'"),
  "a list": ({"feed_forward_proj": ["relu"]}, 'feed_forward_proj is ."relu".'),
  "no architecture": ({"architectures": [[1]]}, "not an encoder-decoder"),
  "another norm": ({"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon is 1e-05"),
  "other shapes": (
    {"d_ff": 32},
    r"encoder/layers_0/mlp/wi_0/kernel has shape \(16, 24\), .* wants \(16, 32\)",
  ),
  "another vocabulary": ({"vocab_size": 272}, r"embedding has shape \(264, 16\)"),
  "fewer layers": ({"num_layers": 1}, r"encoder.block.1.* has no place"),
  "more layers": ({"num_layers": 4}, "encoder/layers_2/.* is missing"),
  "a lost tensor": (
    {"drop": ["decoder.final_layer_norm.weight"]},
    "decoder/decoder_norm/scale .*is missing",
  ),
  "a foreign tensor": ({"more": ALIEN}, r"encoder.block.7.* has no place"),
}


@pytest.mark.parametrize("changes, words", CONFIGS.values(), ids=CONFIGS)
def test_what_is_no_such_t5(tmp_path, changes, words):
  write_hf(tmp_path / "hf", tensors(FLAN), **changes)
  with pytest.raises(UserError, match=words):
    huggingface.open_directory(tmp_path / "hf")


def truncate(folder):
  file = folder / "model-00001-of-00002.safetensors"
  file.write_bytes(file.read_bytes()[:-100])
  return "00001-of-00002.safetensors is not a whole safetensors file"


def spoil_header(folder):
  file = folder / "model-00001-of-00002.safetensors"
  file.write_bytes(b"\x05" + file.read_bytes()[1:])
  return "00001-of-00002.safetensors is not a whole safetensors file"


def lose_shard(folder):
  (folder / "model-00002-of-00002.safetensors").unlink()
  return "model-00002-of-00002.safetensors is missing, one of 2 shards"


def spoil_index(folder):
  (folder / "model.safetensors.index.json").write_text("{")
  return "index.json is not an index of shards"


def lose_all(folder):
  (folder / "model.safetensors.index.json").unlink()
  return "holds no weights"


def spoil_config(folder):
  (folder / "config.json").write_text("{")
  return "config.json cannot be read: not JSON"


@pytest.mark.parametrize(
  "damage", [truncate, spoil_header, lose_shard, spoil_index, lose_all, spoil_config]
)
def test_damage_is_named(tmp_path, damage):
  write_hf(tmp_path / "hf", tensors(FLAN), shards=2)
  words = damage(tmp_path / "hf")
  with pytest.raises(UserError, match=words) as e:
    huggingface.open_directory(tmp_path / "hf")
  assert str(tmp_path) in str(e.value)


def test_nan_is_named(tmp_path):
  made = tensors(FLAN)
  name = "decoder/layers_1/mlp/wo/kernel"
  made[name][3, 5] = np.nan
  write_hf(tmp_path / "hf", made)
  opened = huggingface.open_directory(tmp_path / "hf")
  with pytest.raises(UserError, match=f"{name} holds 1 values that are NaN"):
    opened.tensor(name)


def test_an_id_that_cannot_be_fetched_says_what_to_put_where(monkeypatch, tmp_path):
  import huggingface_hub.constants

  monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
  monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
  with pytest.raises(UserError, match="'google/none'.*spiece.model and model.safe"):
    huggingface.download("google/none", True)


def in_the_hubs_cache(cache, name, fill) -> None:
  """Lays a checkpoint out as huggingface_hub keeps what it has fetched."""
  repo = cache / f"models--{name.replace('/', '--')}"
  (repo / "refs").mkdir(parents=True)
  (repo / "refs" / "main").write_text("0123abc")
  (repo / "snapshots").mkdir()
  fill(repo / "snapshots" / "0123abc")


def test_an_id_is_found_in_the_cache_without_the_network(monkeypatch, tmp_path):
  import huggingface_hub.constants

  monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
  monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
  made = tensors(FLAN)
  in_the_hubs_cache(tmp_path, "google/tiny", lambda folder: write_hf(folder, made))
  found = huggingface.open_directory(huggingface.download("google/tiny", True))
  tiny_weights.assert_equal(read_all(found), made)
  assert json.loads(
    (huggingface.download("google/tiny", False) / "config.json").read_text()
  )

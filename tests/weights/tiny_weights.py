"""Tiny checkpoints in the forms that other programs write, made without our writers."""

import json

import numpy as np
import safetensors.numpy

from t5tune.models import t5
from t5tune.weights import names, weights

FLAN = t5.T5Config(
  emb_dim=16,
  num_heads=2,
  head_dim=4,
  mlp_dim=24,
  num_encoder_layers=2,
  num_decoder_layers=3,
  vocab_size=264,
)
T5_1_0 = t5.T5Config(
  **{
    **{k: v for k, v in vars(FLAN).items() if k != "mlp_activations"},
    "logits_via_embedding": True,
  },
  mlp_activations=("relu",),
)
# As transformers 4 writes them.
CONFIG_JSON = {
  "architectures": ["T5ForConditionalGeneration"],
  "model_type": "t5",
  "d_model": 16,
  "num_heads": 2,
  "d_kv": 4,
  "d_ff": 24,
  "num_layers": 2,
  "num_decoder_layers": 3,
  "vocab_size": 264,
  "feed_forward_proj": "gated-gelu",
  "relative_attention_num_buckets": 32,
  "tie_word_embeddings": False,
}


def tensors(config: t5.T5Config, seed: int = 0) -> dict[str, np.ndarray]:
  """Returns random float32 tensors under T5X's names."""
  rng = np.random.default_rng(seed)
  return {
    name: (1.0 * name.endswith("scale") + 0.3 * rng.normal(size=shape)).astype("f4")
    for name, shape in names.shapes(config).items()
  }


def in_memory(config: t5.T5Config, made: dict[str, np.ndarray]) -> weights.Weights:
  """Returns tensors as opened weights."""
  shapes = {name: value.shape for name, value in made.items()}
  return weights.Weights("memory", config, shapes, made.__getitem__)


def under_hf_names(made: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns tensors as Hugging Face names and lays them out."""
  found = {}
  for name, value in made.items():
    theirs, transposed = names.hugging_face(name)
    found[theirs] = np.ascontiguousarray(value.T if transposed else value)
  return found


def write_hf(folder, made, shards: int = 1, drop=(), more=None, **config) -> None:
  """Writes a Hugging Face directory with the safetensors library.

  Args:
    folder: a new directory.
    made: tensors under T5X's names.
    shards: files of weights.
    drop: Hugging Face's names to leave out.
    more: tensors to add, under Hugging Face's names.
    **config: changes of config.json; None removes a key.
  """
  folder.mkdir(parents=True)
  values = {k: v for k, v in {**CONFIG_JSON, **config}.items() if v is not None}
  (folder / "config.json").write_text(json.dumps(values))
  held = {k: v for k, v in under_hf_names(made).items() if k not in drop}
  held |= more or {}
  if shards == 1:
    safetensors.numpy.save_file(held, folder / "model.safetensors")
    return
  weight_map = {}
  for i in range(shards):
    name = f"model-{i + 1:05}-of-{shards:05}.safetensors"
    part = dict(list(held.items())[i::shards])
    safetensors.numpy.save_file(part, folder / name)
    weight_map |= dict.fromkeys(part, name)
  index = {"metadata": {}, "weight_map": weight_map}
  (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def read_all(opened: weights.Weights) -> dict[str, np.ndarray]:
  """Returns every tensor of opened weights."""
  return {name: opened.tensor(name) for name in names.shapes(opened.config)}


def assert_equal(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
  """Compares tensors bit by bit."""
  assert found.keys() == wanted.keys()
  for name, value in wanted.items():
    assert found[name].dtype == value.dtype, name
    np.testing.assert_array_equal(found[name], value, err_msg=name)

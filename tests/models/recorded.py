"""Checkpoints recorded by the peers, as trees of our parameters and back.

T5X names a parameter `encoder/layers_1/mlp/wo/kernel`; ours is row 1 of
`encoder/layers/mlp/wo/kernel`. Hugging Face's names follow from T5X's.
"""

import json
import pathlib
import re

import jax
import numpy as np
import pytest
from shared_data import shared_dir

from t5tune.models import t5

# The shape of all recorded models.
CONFIG = t5.T5Config(
  emb_dim=32,
  num_heads=4,
  head_dim=8,
  mlp_dim=64,
  num_encoder_layers=2,
  num_decoder_layers=2,
  vocab_size=384,
)


def fixture(name: str) -> pathlib.Path:
  """Returns the path of a recorded fixture, or skips the calling test."""
  path = shared_dir() / "fixtures" / name
  if not path.exists():
    pytest.skip(f"recorded checkpoint absent: no {path}")
  return path


def stack(flat: dict[str, np.ndarray]):
  """Returns nested parameters with stacked layers, from T5X's flat names."""
  layers: dict[str, dict[int, np.ndarray]] = {}
  for name, value in flat.items():
    index = re.search(r"layers_(\d+)", name)
    layers.setdefault(re.sub(r"layers_\d+", "layers", name), {})[
      int(index[1]) if index else -1
    ] = value
  nested: dict = {}
  for name, parts in layers.items():
    *folders, last = name.split("/")
    inside = nested
    for folder in folders:
      inside = inside.setdefault(folder, {})
    inside[last] = (
      parts[-1] if -1 in parts else np.stack([parts[i] for i in sorted(parts)])
    )
  return nested


def unstack(nested) -> dict[str, np.ndarray]:
  """Returns T5X's flat names of nested parameters; the reverse of `stack`."""
  flat = {}
  for path, value in jax.tree_util.tree_leaves_with_path(nested):
    name = "/".join(p.key for p in path)
    if "/layers/" not in name:
      flat[name] = np.asarray(value)
      continue
    for i, layer in enumerate(np.asarray(value)):
      flat[name.replace("/layers/", f"/layers_{i}/")] = layer
  return flat


def hf_name(name: str) -> tuple[str, bool]:
  """Returns Hugging Face's name of a T5X parameter, and whether to transpose it."""
  whole = {
    "token_embedder/embedding": ("shared.weight", False),
    "decoder/logits_dense/kernel": ("lm_head.weight", True),
  }
  if name in whole:
    return whole[name]
  where, *rest = name.split("/")
  if rest[0] == "relpos_bias":
    block = f"{where}.block.0.layer.0.SelfAttention"
    return f"{block}.relative_attention_bias.weight", True
  if rest[0] == f"{where}_norm":
    return f"{where}.final_layer_norm.weight", False
  i, part = rest[0].removeprefix("layers_"), rest[1]
  mlp = {"encoder": 1, "decoder": 2}[where]
  number, module = {
    "pre_attention_layer_norm": (0, "layer_norm"),
    "pre_self_attention_layer_norm": (0, "layer_norm"),
    "pre_cross_attention_layer_norm": (1, "layer_norm"),
    "pre_mlp_layer_norm": (mlp, "layer_norm"),
    "attention": (0, "SelfAttention"),
    "self_attention": (0, "SelfAttention"),
    "encoder_decoder_attention": (1, "EncDecAttention"),
    "mlp": (mlp, "DenseReluDense"),
  }[part]
  block = f"{where}.block.{i}.layer.{number}.{module}"
  if rest[2] == "scale":
    return f"{block}.weight", False
  kernel = rest[2] if part == "mlp" else rest[2][0]  # query -> q, out -> o
  return f"{block}.{kernel}.weight", True


def read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads a file of float32 tensors: header length, JSON header, raw data."""
  data = path.read_bytes()
  start = 8 + int.from_bytes(data[:8], "little")
  tensors = {}
  for name, entry in json.loads(data[8:start]).items():
    if name == "__metadata__":
      continue
    assert entry["dtype"] == "F32"
    begin, end = entry["data_offsets"]
    flat = np.frombuffer(data[start + begin : start + end], "<f4")
    tensors[name] = flat.reshape(entry["shape"])
  return tensors

"""Checkpoints recorded by the peers, as trees of our parameters and back.

T5X names a parameter `encoder/layers_1/mlp/wo/kernel`; ours is row 1 of
`encoder/layers/mlp/wo/kernel`.
"""

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

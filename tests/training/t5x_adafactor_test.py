"""Parity with T5X's Adafactor: one recorded update, from its own state.

Skipped where the recorded checkpoint is absent.
"""

import gzip
import json

import jax
import jax.numpy as jnp
import numpy as np

from t5tune.training import optimizers
from tests.models import recorded, tiny_t5

STEP = 10  # updates that the recorded state has seen


def read_zarr(folder) -> np.ndarray:
  """Reads an array of one gzipped chunk."""
  about = json.loads((folder / ".zarray").read_text())
  assert about["chunks"] == about["shape"] and about["compressor"]["id"] == "gzip"
  chunk = ".".join("0" for _ in about["shape"])
  data = gzip.decompress((folder / chunk).read_bytes())
  return np.frombuffer(data, about["dtype"]).reshape(about["shape"])


def test_a_recorded_update():
  folder = recorded.fixture("t5x_tiny_a")
  flat, reference = np.load(folder / "params.npz"), np.load(folder / "reference.npz")
  params = recorded.stack(dict(flat))
  gradients = recorded.stack({name: reference[f"grad/{name}"] for name in flat})
  saved = folder / f"checkpoint_{STEP}"
  moments = recorded.stack(
    {
      name: read_zarr(saved / f"state.param_states.{name}.v".replace("/", "."))
      for name in flat
    }
  )
  leaves = jax.tree_util.tree_leaves_with_path(moments)
  by_path = {tuple(p.key for p in path): value for path, value in leaves}

  def put(path, value):
    keys = [getattr(p, "key", getattr(p, "name", None)) for p in path]
    if "v" in keys:
      return by_path[tuple(keys[keys.index("v") + 1 :])]
    return np.full_like(value, STEP) if keys[-1] == "count" else value

  config = optimizers.OptimizerConfig("adafactor", learning_rate=0.01)
  optimizer = optimizers.make_optimizer(config, params, 100)
  state = jax.tree_util.tree_map_with_path(put, optimizer.init(params))
  updates, _ = tiny_t5.jit(optimizer.update)(gradients, state, params, jnp.int32(STEP))
  found = recorded.unstack(jax.tree.map(np.add, params, updates))
  for name, value in found.items():
    expected = reference[f"step11/target/{name}"]
    assert np.abs(expected - flat[name]).max() > 1e-4
    np.testing.assert_allclose(value, expected, atol=2e-6, err_msg=name)

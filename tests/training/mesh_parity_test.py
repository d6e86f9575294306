"""A mesh changes no loss: every factorisation of eight devices, in every setting.

The whole product is behind the marker `long`.
"""

import dataclasses
import functools
import itertools
import logging

import jax
import numpy as np
import pytest

from t5tune import partitioning
from tests.models import tiny_t5
from tests.training.tiny_run import MODEL, Setting, TinyRun, tiny_run

# data x fsdp x tensor
MESHES = [
  dict(zip(partitioning.MESH_AXES, sizes, strict=True))
  for sizes in itertools.product((1, 2, 4, 8), repeat=3)
  if np.prod(sizes) == 8
]
SETTINGS = [
  Setting(*values, dropout_rate=0.1)
  for values in itertools.product(
    ("adafactor", "adamw"),
    (1, 2),
    ("float32", "bfloat16"),
    ("scan", "unroll"),
    (False, True),
  )
]
# Each mesh once, and each value of each setting on several.
ONE = Setting(layer_loop="unroll", dropout_rate=0.1)
TWO = Setting("adamw", 2, layer_loop="scan", lora=True, dropout_rate=0.1)
THREE = Setting("adafactor", 2, "bfloat16", "scan", dropout_rate=0.1)
FOUR = Setting("adamw", 1, "bfloat16", "unroll", True, dropout_rate=0.1)
COVERING = dict(
  zip(
    range(len(MESHES)),
    (ONE, TWO, THREE, ONE, FOUR, TWO, ONE, FOUR, THREE, TWO),
    strict=True,
  )
)


@functools.cache
def reference(setting: Setting, packed: bool) -> np.ndarray:
  return TinyRun(setting).losses(packed)


def assert_same_losses(setting: Setting, mesh: dict[str, int]) -> None:
  """Compares five losses, and five of packed rows, with those of one device.

  These are the unrolled model's in float32. In bfloat16 a mesh may stray from them
  twice as far as one device does.
  """
  run = TinyRun(setting, **mesh)
  exact = dataclasses.replace(setting, dtype="float32", layer_loop="unroll")
  expected = np.stack([reference(exact, packed) for packed in (False, True)])
  assert np.ptp(expected) > 0.1, "nothing is learnt"
  off = np.stack([run.losses(packed) for packed in (False, True)]) - expected
  if setting.dtype == "float32":
    assert np.abs(off).max() < 1e-5
  else:
    alone = np.stack([reference(setting, packed) for packed in (False, True)])
    strays = lambda x: np.sqrt(np.mean(np.square(x)))  # noqa: E731
    assert 1e-4 < strays(off) < 2 * strays(alone - expected)


@pytest.mark.parametrize("mesh", COVERING, ids=lambda i: str(MESHES[i]))
def test_a_mesh_changes_no_loss(mesh):
  assert_same_losses(COVERING[mesh], MESHES[mesh])


@pytest.mark.long
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_no_mesh_changes_a_loss_in_any_setting(setting):
  for mesh in MESHES:
    assert_same_losses(setting, mesh)


@pytest.mark.parametrize(
  "optimizer,mesh",
  [("adafactor", {"data": 2, "fsdp": 2, "tensor": 2}), ("adamw", {"fsdp": 8})],
  ids=str,
)
def test_a_mesh_changes_no_metric_and_no_parameter(optimizer, mesh):
  alone, many = tiny_run(optimizer), tiny_run(optimizer, **mesh)
  expected, before = alone.steps(alone.start(), 5)
  found, after = many.steps(many.start(), 5)
  for one, other in zip(before, after, strict=True):
    assert other == pytest.approx(one, rel=1e-4)
  start = tiny_t5.params(MODEL)
  for (path, a), b, first in zip(
    jax.tree_util.tree_leaves_with_path(jax.device_get(expected.params)),
    jax.tree.leaves(jax.device_get(found.params)),
    jax.tree.leaves(start),
    strict=True,
  ):
    # In the norm: where a gradient is all but zero, Adam takes a step of its noise.
    off, moved = np.linalg.norm(b - a), np.linalg.norm(a - first)
    assert off < 0.01 * moved, jax.tree_util.keystr(path)


def test_an_axis_that_the_mesh_does_not_divide_is_replicated(caplog, monkeypatch):
  monkeypatch.setattr(partitioning, "_reported", set())
  setting = Setting(num_heads=6, vocab_size=129, layer_loop="unroll")
  mesh = {"data": 2, "tensor": 4}
  with caplog.at_level(logging.WARNING, "t5tune.partitioning"):
    run = TinyRun(setting, **mesh)
    found = run.losses()
  assert [record.message for record in caplog.records] == [
    "axis 'vocab' of size 129 is not divisible by tensor = 4: replicated instead",
    "axis 'heads' of size 6 is not divisible by tensor = 4: replicated instead",
  ]
  np.testing.assert_allclose(found, reference(setting, False), atol=1e-5)
  state = run.start()
  embedding = state.params["token_embedder"]["embedding"]
  assert embedding.sharding.shard_shape(embedding.shape) == (129, 32)
  kernel = state.params["encoder"]["layers"]["attention"]["query"]["kernel"]
  assert kernel.sharding.shard_shape(kernel.shape) == (1, 32, 48 // 4)

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
from t5tune.training import parameter_groups
from tests.models import tiny_t5
from tests.training.tiny_run import Setting, TinyRun

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
FOUR = Setting(layer_loop="scan", lora=True, dropout_rate=0.1)
DRAWS = 4  # of batches, to measure how far bfloat16 strays
COVERING = list(
  zip(MESHES, (ONE, TWO, THREE, FOUR, ONE, THREE, TWO, THREE, FOUR, TWO), strict=True)
)


_run = functools.cache(TinyRun)


@functools.cache
def on_one_device(setting: Setting, packed: bool, draw: int = 0):
  """Returns the parameters and the metrics of five steps on one device."""
  run = _run(setting)
  state, metrics = run.steps(run.start(), 5, packed, draw)
  return jax.device_get(state.params), metrics


def losses(metrics) -> np.ndarray:
  return np.array([step["loss"] for step in metrics])


def assert_same_steps(setting: Setting, mesh: dict[str, int]) -> None:
  """Compares five steps, and five of packed rows, with those of one device.

  These are the unrolled model's in float32. In bfloat16 the losses of a mesh may stray
  from them twice as far as those of one device do, which takes several draws to tell.
  """
  run = TinyRun(setting, **mesh)
  exact = dataclasses.replace(setting, dtype="float32", layer_loop="unroll")
  if setting.dtype == "bfloat16":
    assert_stray_no_further(run, setting, exact)
    return
  for packed in (False, True):
    state, found = run.steps(run.start(), 5, packed)
    params, expected = on_one_device(exact, packed)
    assert np.ptp(losses(expected)) > 0.1, "nothing is learnt"
    assert np.abs(losses(found) - losses(expected)).max() < 1e-5
    for step, same in zip(found, expected, strict=True):
      assert step == pytest.approx(same, rel=1e-4)
    assert_same_params(run, jax.device_get(state.params), params)


def assert_stray_no_further(run: TinyRun, setting: Setting, exact: Setting) -> None:
  off, off_alone = [], []
  for packed, draw in itertools.product((False, True), range(DRAWS)):
    found = losses(run.steps(run.start(), 5, packed, draw)[1])
    expected = losses(on_one_device(exact, packed, draw)[1])
    off.append(found - expected)
    off_alone.append(losses(on_one_device(setting, packed, draw)[1]) - expected)
  strays = lambda x: np.sqrt(np.mean(np.square(x)))  # noqa: E731
  assert 1e-4 < strays(off) < 2 * strays(off_alone)


def assert_same_params(run: TinyRun, found, expected) -> None:
  flat = map(parameter_groups.flatten, (found, expected, tiny_t5.params(run.model)))
  found, expected, start = flat
  for name in run.optimizer.names:
    # In the norm: where a gradient is all but zero, Adam takes a step of its noise.
    moved = np.linalg.norm(expected[name] - start[name])
    assert np.linalg.norm(found[name] - expected[name]) < 0.01 * moved, name
  for name in expected.keys() - run.optimizer.names:
    np.testing.assert_array_equal(found[name], start[name], err_msg=name)


@pytest.mark.parametrize(
  "mesh,setting", COVERING, ids=["x".join(map(str, m.values())) for m in MESHES]
)
def test_a_mesh_changes_no_step(mesh, setting):
  assert_same_steps(setting, mesh)


@pytest.mark.long
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_no_mesh_changes_a_step_in_any_setting(setting):
  for mesh in MESHES:
    assert_same_steps(setting, mesh)


def test_an_axis_that_the_mesh_does_not_divide_is_replicated(caplog, monkeypatch):
  monkeypatch.setattr(partitioning, "_reported", set())
  setting = Setting(num_heads=6, vocab_size=129, layer_loop="unroll")
  mesh = {"data": 2, "tensor": 4}
  with caplog.at_level(logging.WARNING, "t5tune.partitioning"):
    run = TinyRun(setting, **mesh)
    state, found = run.steps(run.start(), 5)
  assert [record.message for record in caplog.records] == [
    "axis 'vocab' of size 129 is not divisible by tensor = 4: replicated instead",
    "axis 'heads' of size 6 is not divisible by tensor = 4: replicated instead",
  ]
  expected = losses(on_one_device(setting, False)[1])
  np.testing.assert_allclose(losses(found), expected, atol=1e-5)
  embedding = state.params["token_embedder"]["embedding"]
  assert embedding.sharding.shard_shape(embedding.shape) == (129, 32)
  kernel = state.params["encoder"]["layers"]["attention"]["query"]["kernel"]
  assert kernel.sharding.shard_shape(kernel.shape) == (1, 32, 48 // 4)

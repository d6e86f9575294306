"""Tests of the model as functions and of where its state lies."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from t5tune import partitioning
from t5tune.training import optimizers, train_state
from tests.models import tiny_t5
from tests.training import tiny_run

WIDE = dataclasses.replace(
  tiny_t5.CONFIG, emb_dim=256, num_heads=8, mlp_dim=512, vocab_size=1024
)
OPTIMIZER = optimizers.make_optimizer(
  dataclasses.replace(tiny_run.OPTIMIZERS["adafactor"], ema_decay=0.9),
  tiny_run.MODEL.param_specs(),
  10,
)


def test_merged_parameters_come_to_their_own_place():
  params = tiny_t5.params(tiny_run.MODEL)
  module = tiny_run.MODEL.merge(params)
  for path, value in jax.tree_util.tree_leaves_with_path(params):
    inside = module
    for entry in path:
      inside = getattr(inside, entry.key)
    np.testing.assert_array_equal(inside[...], value, err_msg=str(path))


def test_specs_name_every_dimension():
  specs = tiny_run.MODEL.param_specs()
  params = tiny_t5.params(tiny_run.MODEL)
  assert jax.tree.map(lambda s: s.shape, specs) == jax.tree.map(np.shape, params)
  kernel = specs["decoder"]["layers"]["mlp"]["wi_0"]["kernel"]
  assert kernel.axes == ("layers", "embed", "mlp") and kernel.shape == (2, 32, 64)
  assert specs["token_embedder"]["embedding"].axes == ("vocab", "embed")
  count = sum(math.prod(s.shape) for s in jax.tree.leaves(specs))
  assert tiny_run.MODEL.num_params() == count


@pytest.fixture(scope="module")
def created():
  mesh = partitioning.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
  return mesh, train_state.create(tiny_run.MODEL, OPTIMIZER, mesh, seed=3)


def test_initial_parameters_do_not_depend_on_the_mesh(created):
  _, state = created
  init = tiny_t5.jit(tiny_run.MODEL.init)
  alone, other = init(jax.random.key(3)), init(jax.random.key(4))
  for path, value in jax.tree_util.tree_leaves_with_path(alone):
    found, another = state.params, other
    for entry in path:
      found, another = found[entry.key], another[entry.key]
    np.testing.assert_allclose(found, value, atol=1e-6)
    assert (path[-1].key == "scale") == bool(np.all(another == value))
  assert int(state.step) == 0


def test_initial_parameters_have_t5s_scales(created):
  params = jax.device_get(created[1].params)
  layers = params["decoder"]["layers"]
  expected = {
    1.0: params["token_embedder"]["embedding"],
    (32 * 8) ** -0.5: layers["self_attention"]["query"]["kernel"],  # folds 1/sqrt(k)
    32**-0.5: layers["self_attention"]["key"]["kernel"],
    64**-0.5: layers["mlp"]["wo"]["kernel"],
  }
  for scale, value in expected.items():
    assert value.std() == pytest.approx(scale, rel=0.05)
  assert np.all(layers["pre_mlp_layer_norm"]["scale"] == 1)
  # Each layer is drawn on its own.
  assert np.abs(np.corrcoef(*layers["mlp"]["wo"]["kernel"].reshape(2, -1))[0, 1]) < 0.1


def test_created_arrays_lie_where_they_should(created):
  mesh, state = created
  shardings = train_state.state_shardings(tiny_run.MODEL, OPTIMIZER, mesh)
  for x, sharding in zip(
    jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True
  ):
    assert x.sharding.is_equivalent_to(sharding, x.ndim)
  on_device = lambda x: x.addressable_shards[0].data.nbytes  # noqa: E731
  for tree in (state.params, state.opt_state, state.average):
    held = sum(on_device(x) for x in jax.tree.leaves(tree))
    whole = sum(x.nbytes for x in jax.tree.leaves(tree))
    assert held < 0.27 * whole  # fsdp x tensor = 4, but for the vectors


def test_a_state_of_given_parameters_starts_as_one_of_drawn_ones(created):
  mesh, drawn = created
  given = train_state.create(tiny_run.MODEL, OPTIMIZER, mesh, 0, drawn.params)
  for a, b in zip(jax.tree.leaves(drawn), jax.tree.leaves(given), strict=True):
    assert a.sharding.is_equivalent_to(b.sharding, a.ndim)
    np.testing.assert_array_equal(a, b)
  # An update gives the buffers of parameters and average away: they are not the same.
  for state in created[1], given:
    trained = OPTIMIZER.trainable(state.params)
    for p, a in zip(
      jax.tree.leaves(trained), jax.tree.leaves(state.average), strict=True
    ):
      pointers = [x.addressable_shards[0].data.unsafe_buffer_pointer() for x in (p, a)]
      assert pointers[0] != pointers[1]


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
@pytest.mark.parametrize("mesh", [{"fsdp": 8}, {"tensor": 8}, {"fsdp": 4, "tensor": 2}])
def test_no_large_array_is_whole_on_a_device(name, mesh):
  mesh = partitioning.make_mesh(mesh)
  model = train_state.Model(WIDE)
  optimizer = optimizers.make_optimizer(
    optimizers.OptimizerConfig(name), model.param_specs(), 10
  )
  abstract = train_state.placed_abstract_state(model, optimizer, mesh)
  for path, x in jax.tree_util.tree_leaves_with_path(abstract):
    parts = x.size / math.prod(x.sharding.shard_shape(x.shape))
    if x.size >= 50_000:
      assert parts == 8, jax.tree_util.keystr(path)
  leaves = jax.tree.leaves(abstract)
  held = sum(math.prod(x.sharding.shard_shape(x.shape)) for x in leaves)
  assert held < 1.05 / 8 * sum(x.size for x in leaves)


def test_factored_moments_lie_beside_their_parameters():
  mesh = partitioning.make_mesh({"fsdp": 4, "tensor": 2})
  model = train_state.Model(WIDE)
  optimizer = optimizers.make_optimizer(
    optimizers.OptimizerConfig("adafactor"), model.param_specs(), 10
  )
  abstract = train_state.placed_abstract_state(model, optimizer, mesh).opt_state
  found = {}
  for path, x in jax.tree_util.tree_leaves_with_path(abstract):
    names = [getattr(p, "key", getattr(p, "name", None)) for p in path]
    if names[-3:-1] == ["mlp", "wi_0"] and "encoder" in names:
      slot = next(n for n in ("v_row", "v_col", "v") if n in names)
      found[slot] = (x.shape, tuple(x.sharding.spec))
  assert found == {
    "v_row": ((2, 256), (None, "fsdp")),  # averaged over the largest axis, mlp
    "v_col": ((2, 512), (None, "tensor")),
    "v": ((2, 1), (None, None)),  # unused
  }

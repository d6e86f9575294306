"""Parameters, gradients and optimiser state really are spread over the devices."""

import dataclasses
import math

import jax
import optax
import pytest

from t5tune import partitioning
from t5tune.training import optimizers, parameter_groups, train_state, train_step
from tests.training import tiny_run

MODEL = tiny_run.Setting(layer_loop="scan").model()


def watched(optimizer: optimizers.Optimizer, seen: dict) -> optimizers.Optimizer:
  """Returns the optimiser, which notes the sharding of the gradients that it gets."""

  def note(path, gradient):
    def callback(sharding):
      seen["/".join(p.key for p in path)] = sharding

    jax.debug.inspect_array_sharding(gradient, callback=callback)

  def update(gradients, state, params):
    jax.tree_util.tree_map_with_path(note, gradients)
    return optimizer.directions.update(gradients, state, params)

  watching = optax.GradientTransformation(optimizer.directions.init, update)
  return dataclasses.replace(optimizer, directions=watching)


@pytest.mark.parametrize(
  "mesh,microbatches,parts",
  [
    ({"data": 2, "fsdp": 2, "tensor": 2}, 1, 4),
    ({"fsdp": 4, "tensor": 2}, 2, 8),
  ],
  ids=str,
)
def test_a_device_holds_its_share(mesh, microbatches, parts):
  mesh, seen = partitioning.make_mesh(mesh), {}
  config = dataclasses.replace(tiny_run.OPTIMIZERS["adamw"], ema_decay=0.9)
  optimizer = optimizers.make_optimizer(config, MODEL.param_specs(), 10)
  optimizer = watched(optimizer, seen)
  shardings = train_state.state_shardings(MODEL, optimizer, mesh)
  update = jax.jit(
    train_step.make_train_step(MODEL, optimizer, microbatches=microbatches),
    donate_argnums=0,
    out_shardings=(shardings, partitioning.replicated(mesh)),
    compiler_options=tiny_run.QUICKLY,
  )
  with jax.set_mesh(mesh):
    state = train_state.create(MODEL, optimizer, mesh, seed=0)
    rows = jax.tree.map(
      lambda x: jax.device_put(
        x, partitioning.sharding(mesh, ("batch", "length"), x.shape)
      ),
      tiny_run.batch(0),
    )
    state, _ = update(state, rows, jax.random.key(0))
  # The new state lies like the one before, and a gradient like its parameter.
  for x, sharding in zip(
    jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True
  ):
    assert x.sharding.is_equivalent_to(sharding, x.ndim)
  params = parameter_groups.flatten(state.params)
  assert seen.keys() == params.keys()
  for name, x in params.items():
    shard = seen[name].shard_shape(x.shape)
    assert shard == x.sharding.shard_shape(x.shape), name
    if x.size > 1000:
      assert x.size == parts * math.prod(shard), name
  # Bytes of a device; norm scales and position biases are small.
  for tree in (state.params, state.opt_state, state.average):
    leaves = jax.tree.leaves(tree)
    on_device = sum(x.addressable_shards[0].data.nbytes for x in leaves)
    assert on_device < 1.1 / parts * sum(x.nbytes for x in leaves)

"""Tests of the optimisers: layers of a stack alone, weight decay, clipping, groups."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from t5tune.training import optimizers, parameter_groups
from tests.models import tiny_t5

# Factored, square, too small to factor, vectors; and stacks of different depth.
SHAPES = {
  "token_embedder": {"embedding": (160, 128)},
  "encoder": {
    "layers": {
      "wi": {"kernel": (3, 128, 192)},
      "query": {"kernel": (3, 128, 128)},
      "norm": {"scale": (3, 128)},
    },
    "encoder_norm": {"scale": (128,)},
  },
  "decoder": {
    "layers": {"wo": {"kernel": (2, 192, 130)}, "small": {"kernel": (2, 16, 200)}},
    "relpos_bias": {"rel_embedding": (4, 32)},
  },
}


def draw(seed: int):
  """Returns arrays of `SHAPES` whose layers differ in scale by two decades."""
  rng = np.random.default_rng(seed)

  def one(path, shape):
    x = rng.normal(size=shape)
    if "layers" in [p.key for p in path]:
      x *= 10.0 ** rng.uniform(-1, 1, (shape[0],) + (1,) * (len(shape) - 1))
    return x.astype(np.float32)

  is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
  return jax.tree_util.tree_map_with_path(one, SHAPES, is_leaf=is_shape)


def unstacked(tree) -> dict[str, np.ndarray]:
  """Returns each layer's arrays as entries of their own."""
  flat = {}
  for path, value in jax.tree_util.tree_leaves_with_path(tree):
    name = jax.tree_util.keystr(path)
    if "layers" in name:
      flat |= {f"{name}-{i}": layer for i, layer in enumerate(value)}
    else:
      flat[name] = value
  return flat


REFERENCES = {
  "adafactor": optax.adafactor(0.1),
  "adafactor unscaled": optax.adafactor(
    0.1, multiply_by_parameter_scale=False, decay_rate=0.7
  ),
  "adafactor clipped": optax.chain(
    optax.clip_by_global_norm(0.5), optax.adafactor(0.1)
  ),
  "adamw": optax.adamw(0.1, b1=0.8, b2=0.99, eps=1e-6, weight_decay=0.0),
}
CONFIGS = {
  "adafactor": optimizers.OptimizerConfig("adafactor", learning_rate=0.1),
  "adafactor unscaled": optimizers.OptimizerConfig(
    "adafactor", learning_rate=0.1, parameter_scale=False, decay_rate=0.7
  ),
  "adafactor clipped": optimizers.OptimizerConfig(
    "adafactor", learning_rate=0.1, clip_norm=0.5
  ),
  "adamw": optimizers.OptimizerConfig(
    "adamw", learning_rate=0.1, beta1=0.8, beta2=0.99, epsilon=1e-6
  ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_stack_moves_as_its_layers_alone(name):
  params, single = draw(0), REFERENCES[name]
  ours = optimizers.make_optimizer(CONFIGS[name], params, 10)
  alone = unstacked(params)
  state, reference_state = ours.init(params), single.init(alone)
  ours_update, single_update = map(tiny_t5.jit, (ours.update, single.update))
  for step in range(1, 4):
    gradients = draw(step)
    updates, state = ours_update(gradients, state, params, step)
    params = optax.apply_updates(params, updates)
    updates, reference_state = single_update(
      unstacked(gradients), reference_state, alone
    )
    alone = optax.apply_updates(alone, updates)
  for key, value in unstacked(params).items():
    np.testing.assert_allclose(value, alone[key], rtol=1e-4, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
def test_weight_decay_spares_norms_and_position_biases(name):
  params = draw(0)
  still = jax.tree.map(jnp.zeros_like, params)

  def decayed(**settings) -> set[str]:
    config = optimizers.OptimizerConfig(
      name, learning_rate=0.1, weight_decay=0.5, **settings
    )
    optimizer = optimizers.make_optimizer(config, params, 10)
    update = tiny_t5.jit(optimizer.update)
    updates, _ = update(still, optimizer.init(params), params, 0)
    before, moved = map(parameter_groups.flatten, (params, updates))
    found = {key for key, value in moved.items() if value.any()}
    for key in found:
      np.testing.assert_allclose(moved[key], -0.05 * before[key], rtol=1e-5)
    return found

  names = set(parameter_groups.flatten(params))
  spared = {key for key in names if "norm" in key or "relpos" in key}
  assert len(spared) == 3 and decayed() == names - spared
  assert decayed(no_weight_decay=()) == names
  assert decayed(no_weight_decay=["encoder/.*"]) == {
    key for key in names if not key.startswith("encoder")
  }


def test_gradients_are_clipped_by_their_global_norm():
  config = optimizers.OptimizerConfig("adamw", clip_norm=2.0, epsilon=1e6)
  params, gradients = draw(0), draw(1)
  norm = float(optax.global_norm(gradients))
  assert norm > 2

  def updates(config):
    optimizer = optimizers.make_optimizer(config, params, 10)
    update = tiny_t5.jit(optimizer.update)
    return jax.tree.leaves(update(gradients, optimizer.init(params), params, 0)[0])

  # With so large an epsilon the update is linear in the gradient.
  free = dataclasses.replace(config, clip_norm=None)
  for small, large in zip(updates(config), updates(free), strict=True):
    np.testing.assert_allclose(small, large * 2 / norm, rtol=1e-3)


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
def test_a_group_moves_at_its_own_rate_and_others_as_before(name):
  params, gradients = draw(0), draw(1)

  def updates(**settings):
    config = optimizers.OptimizerConfig(
      name, learning_rate=0.1, weight_decay=0.5, **settings
    )
    optimizer = optimizers.make_optimizer(config, params, 10)
    trainable = optimizer.trainable(params)
    update = tiny_t5.jit(optimizer.update)
    found, _ = update(
      optimizer.trainable(gradients), optimizer.init(trainable), trainable, 0
    )
    return parameter_groups.flatten(found)

  plain = updates()
  scaled = updates(learning_rate_scales={"encoder/layers/.*": 0.25})
  for key, value in plain.items():
    factor = 0.25 if key.startswith("encoder/layers/") else 1
    np.testing.assert_allclose(scaled[key], factor * value, rtol=1e-6, err_msg=key)
  # Without clipping, what is frozen is of no account to the rest.
  thawed = updates(freeze=["encoder/.*"])
  assert {key.split("/")[0] for key in thawed} == {"decoder", "token_embedder"}
  for key, value in thawed.items():
    np.testing.assert_allclose(value, plain[key], rtol=1e-6, err_msg=key)

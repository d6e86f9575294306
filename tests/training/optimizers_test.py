"""Tests of the optimisers: schedules, and layers of a stack treated alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from t5tune import errors
from t5tune.training import optimizers
from tests.models import tiny_t5

PEAK = 0.5


def rates(steps: int, **settings) -> np.ndarray:
  """Returns the learning rate of each update of a run, and of one after it."""
  config = optimizers.OptimizerConfig(learning_rate=PEAK, **settings)
  schedule = optimizers.make_optimizer(config, {"kernel": None}, steps).schedule
  return np.array([schedule(jnp.int32(step)) for step in range(steps + 1)]) / PEAK


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "rsqrt"])
@pytest.mark.parametrize("warmup", [0, 1, 4])
def test_warm_up_grows_linearly_to_the_peak(schedule, warmup):
  found = rates(10, schedule=schedule, warmup_steps=warmup)
  # The first update already moves, and the last of the warm-up is at the peak.
  expected = [(step + 1) / warmup for step in range(warmup)]
  np.testing.assert_allclose(found[:warmup], expected, rtol=1e-6)
  assert found[warmup] == pytest.approx(1)  # decay begins at the peak
  assert found.max() == pytest.approx(1)


@pytest.mark.parametrize("warmup", [0, 4])
def test_schedules_after_the_warm_up(warmup):
  after = np.arange(11 - warmup)
  rest = 10 - warmup
  for schedule, expected in {
    "constant": np.ones_like(after),
    "linear": 1 - after / rest,
    "cosine": (1 + np.cos(np.pi * after / rest)) / 2,
    "rsqrt": np.sqrt(max(warmup, 1) / (after + max(warmup, 1))),
  }.items():
    found = rates(10, schedule=schedule, warmup_steps=warmup)
    np.testing.assert_allclose(found[warmup:], expected, atol=1e-6, err_msg=schedule)
    assert found[:10].min() > 0, "an update that moves nothing"


def test_a_warm_up_as_long_as_the_run_leaves_no_decay():
  for schedule in ("linear", "cosine"):
    with pytest.raises(errors.UserError, match="warmup_steps = 10 .* 10 .*TRAIN_STEPS"):
      rates(10, schedule=schedule, warmup_steps=10)
  assert rates(10, schedule="constant", warmup_steps=10)[4] == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
def test_the_first_update_uses_the_first_rate(name):
  config = optimizers.OptimizerConfig(
    name, learning_rate=PEAK, warmup_steps=4, parameter_scale=False
  )
  optimizer = optimizers.make_optimizer(config, 10)
  params = {
    "encoder": {"layers": {"wo": {"kernel": np.ones((1, 4, 3), np.float32)}}},
    "decoder": {"layers": {"wo": {"kernel": np.ones((2, 4, 3), np.float32)}}},
    "token_embedder": {"embedding": np.ones((5, 4), np.float32)},
  }
  state, update = optimizer.init(params), tiny_t5.jit(optimizer.update)
  # All gradients equal: both optimisers then step by the learning rate itself.
  for step in range(6):
    updates, state = update(params, state, params)
    expected = -PEAK * min((step + 1) / 4, 1)
    for x in jax.tree.leaves(updates):
      np.testing.assert_allclose(x, expected, rtol=1e-4)


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
  ours, single = optimizers.make_optimizer(CONFIGS[name], 10), REFERENCES[name]
  params = draw(0)
  alone = unstacked(params)
  state, reference_state = ours.init(params), single.init(alone)
  ours_update, single_update = map(tiny_t5.jit, (ours.update, single.update))
  for step in range(1, 4):
    gradients = draw(step)
    updates, state = ours_update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    updates, reference_state = single_update(
      unstacked(gradients), reference_state, alone
    )
    alone = optax.apply_updates(alone, updates)
  for key, value in unstacked(params).items():
    np.testing.assert_allclose(value, alone[key], rtol=1e-4, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
def test_weight_decay_spares_vectors(name):
  config = optimizers.OptimizerConfig(name, learning_rate=0.1, weight_decay=0.5)
  optimizer = optimizers.make_optimizer(config, 10)
  params = draw(0)
  still = jax.tree.map(jnp.zeros_like, params)
  update = tiny_t5.jit(optimizer.update)
  updates, _ = update(still, optimizer.init(params), params)
  for (path, update), value in zip(
    jax.tree_util.tree_leaves_with_path(updates), jax.tree.leaves(params), strict=True
  ):
    decayed = path[-1].key != "scale"  # of rank two, but for its layer axis
    expected = -0.1 * 0.5 * value * decayed
    np.testing.assert_allclose(update, expected, rtol=1e-5, err_msg=str(path))


def test_gradients_are_clipped_by_their_global_norm():
  config = optimizers.OptimizerConfig("adamw", clip_norm=2.0, epsilon=1e6)
  clipped = optimizers.make_optimizer(config, 10)
  free = optimizers.make_optimizer(dataclasses.replace(config, clip_norm=None), 10)
  params, gradients = draw(0), draw(1)
  norm = float(optax.global_norm(gradients))
  assert norm > 2
  # With so large an epsilon the update is linear in the gradient.
  small, _ = tiny_t5.jit(clipped.update)(gradients, clipped.init(params), params)
  large, _ = tiny_t5.jit(free.update)(gradients, free.init(params), params)
  for a, b in zip(jax.tree.leaves(small), jax.tree.leaves(large), strict=True):
    np.testing.assert_allclose(a, b * 2 / norm, rtol=1e-3)

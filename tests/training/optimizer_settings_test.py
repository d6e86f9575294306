"""Tests of what an optimiser's settings say: rates, averages, values out of range."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5tune import errors
from t5tune.training import optimizers
from tests.models import tiny_t5


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
def test_the_first_update_uses_the_first_rate(name):
  config = optimizers.OptimizerConfig(
    name, learning_rate=0.5, warmup_steps=4, parameter_scale=False
  )
  params = {
    "encoder": {"layers": {"wo": {"kernel": np.ones((1, 4, 3), np.float32)}}},
    "decoder": {"layers": {"wo": {"kernel": np.ones((2, 4, 3), np.float32)}}},
    "token_embedder": {"embedding": np.ones((5, 4), np.float32)},
  }
  optimizer = optimizers.make_optimizer(config, params, 10)
  state, update = optimizer.init(params), tiny_t5.jit(optimizer.update)
  # All gradients equal: both optimisers then step by the learning rate itself.
  for step in range(6):
    updates, state = update(params, state, params, step)
    expected = -0.5 * min((step + 1) / 4, 1)
    for x in jax.tree.leaves(updates):
      np.testing.assert_allclose(x, expected, rtol=1e-4)


def test_the_average_follows_the_parameters():
  config = optimizers.OptimizerConfig(ema_decay=0.5)
  optimizer = optimizers.make_optimizer(config, {"kernel": None}, 100)
  rng = np.random.default_rng(0)
  average = {"kernel": jnp.zeros(3)}
  expected = np.zeros(3)
  for step in range(20):
    params = rng.normal(size=3).astype(np.float32)
    decay = min(0.5, (1 + step) / (10 + step))
    expected = decay * expected + (1 - decay) * params
    average = optimizer.averaged(average, {"kernel": params}, jnp.int32(step))
    np.testing.assert_allclose(average["kernel"], expected, atol=1e-6)
  assert decay == 0.5  # the warm-up is over


@pytest.mark.parametrize(
  "settings,message",
  [
    (
      {"learning_rate": 0.0},
      "OptimizerConfig.learning_rate = 0.0: it must be positive",
    ),
    ({"warmup_steps": -1}, "warmup_steps = -1: it must be 0 or more"),
    ({"warmup_steps": 5, "warmup_epochs": 1.0}, "warmup_steps = 5 and warmup_epochs"),
    ({"schedule": "linear", "final_share": 1.5}, "final_share = 1.5.* from 0 to 1"),
    ({"schedule": "rsqrt", "final_share": 0.1}, "'linear' and 'cosine'; 'rsqrt' does"),
    ({"clip_norm": 0.0}, "clip_norm = 0.0: it must be positive, or None"),
    ({"ema_decay": 1.0}, "ema_decay = 1.0: it must be between 0 and 1, such as 0.999"),
    ({"learning_rate_scales": {".*": 0.0}}, "positive factors; .*freeze keeps"),
    ({"beta1": 1.0}, "beta1 = 1.0: it must be at least 0 and below 1"),
    ({"epsilon": 0.0}, "epsilon = 0.0: it must be positive"),
    ({"learning_rate": math.inf}, "learning_rate = inf: it must be finite"),
    ({"warmup_epochs": math.inf}, "warmup_epochs = inf: it must be finite"),
    ({"weight_decay": math.inf}, "weight_decay = inf: it must be finite"),
    ({"learning_rate_scales": {".*": math.inf}}, "learning_rate_scales = .*finite"),
  ],
  ids=str,
)
def test_a_setting_out_of_range_is_explained(settings, message):
  with pytest.raises(errors.UserError, match=message):
    optimizers.OptimizerConfig(**settings)

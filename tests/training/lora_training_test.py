"""Training with LoRA: the factors alone move, cost state and learn."""

import dataclasses

import jax
import numpy as np
import pytest

from t5tune import partitioning
from t5tune.models import lora
from t5tune.training import optimizers, parameter_groups, train_state, train_step
from tests.models import tiny_t5

EVERY_KERNEL = ("query", "key", "value", "out", "wi_0", "wi_1", "wo")
CONFIG = dataclasses.replace(
  tiny_t5.CONFIG,
  num_encoder_layers=1,
  num_decoder_layers=1,
  lora=lora.LoraConfig(rank=4, targets=EVERY_KERNEL),
)
BATCH = tiny_t5.pack([[e] for e in tiny_t5.examples([(9, 7)] * 8)], 9, 7)
STEPS = 40


@pytest.mark.parametrize("optimizer", ["adafactor", "adamw"])
def test_the_factors_learn_at_an_ordinary_rate(optimizer):
  model = train_state.Model(CONFIG)
  settings = optimizers.OptimizerConfig(optimizer, learning_rate=1e-3)
  optimizer = optimizers.make_optimizer(settings, model.param_specs(), STEPS)
  params = tiny_t5.jit(model.init)(jax.random.key(0))
  mesh = partitioning.make_mesh({}, jax.devices()[:1])
  state = train_state.create(model, optimizer, mesh, 0, params)
  before = parameter_groups.flatten(jax.device_get(state.params))
  step = tiny_t5.jit(train_step.make_train_step(model, optimizer))
  losses = []
  for _ in range(STEPS):
    state, metrics = step(state, BATCH, jax.random.key(0))
    losses.append(float(metrics["loss"]))
  # lora_b starts at zero, so that a rate relative to its size would leave it there.
  assert losses[-1] < 0.95 * losses[0]
  for name, value in parameter_groups.flatten(jax.device_get(state.params)).items():
    moved = not np.array_equal(value, before[name])
    assert moved == parameter_groups.is_lora_factor(name), name
  factors = {n: x for n, x in before.items() if parameter_groups.is_lora_factor(n)}
  slots = sum(x.size for x in jax.tree.leaves(state.opt_state))
  assert slots < 2.1 * sum(x.size for x in factors.values())

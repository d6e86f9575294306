"""What does not train costs neither gradients nor optimiser state."""

import dataclasses

import jax
import numpy as np
import pytest

from t5tune import partitioning
from t5tune.training import optimizers, parameter_groups, train_state, train_step
from tests.training import tiny_run

FROZEN = ["encoder/.*", "token_embedder/.*"]


@pytest.fixture(scope="module")
def steps():
  """Returns the compiled update, its abstract state and its FLOPs, by what trains."""
  mesh = partitioning.make_mesh({}, jax.devices()[:1])
  found = {}
  for name, freeze in {"all": [], "decoder": FROZEN, "lora": []}.items():
    model = tiny_run.Setting(lora=name == "lora", layer_loop="scan").model()
    config = optimizers.OptimizerConfig("adamw", freeze=freeze, ema_decay=0.9)
    optimizer = optimizers.make_optimizer(config, model.param_specs(), 10)
    state = train_state.placed_abstract_state(model, optimizer, mesh)
    update = jax.jit(train_step.make_train_step(model, optimizer), donate_argnums=0)
    lowered = update.lower(state, tiny_run.batch(0), jax.random.key(0))
    found[name] = state, lowered, optimizer
  return found


def size(tree) -> int:
  return sum(x.size for x in jax.tree.leaves(tree))


def test_no_state_is_kept_for_it(steps):
  for state, _, optimizer in steps.values():
    trained = size(optimizer.trainable(state.params))
    assert size(state.average) == trained
    assert size(state.opt_state) == 2 * trained + 1  # two moments and a count
  state, _, optimizer = steps["lora"]
  assert size(optimizer.trainable(state.params)) < 0.1 * size(state.params)


def test_no_gradient_is_computed_for_it(steps):
  flops = {name: x[1].cost_analysis()["flops"] for name, x in steps.items()}
  # A third of a step is the forward pass, a third gradients of activations, a third
  # those of kernels: LoRA saves the last, a frozen encoder most of both for its layers.
  assert flops["lora"] < 0.8 * flops["all"]
  assert flops["decoder"] < 0.85 * flops["all"]


def test_memory_is_that_of_what_trains(steps):
  temporary, held = {}, {}
  for name in ("all", "lora"):
    analysis = (
      steps[name][1].compile(compiler_options=tiny_run.QUICKLY).memory_analysis()
    )
    temporary[name] = analysis.temp_size_in_bytes
    held[name] = analysis.argument_size_in_bytes
  params = 4 * size(steps["all"][0].params)
  # Two moments and the average of all parameters, and their gradients.
  assert held["all"] - held["lora"] > 2.5 * params
  assert temporary["all"] - temporary["lora"] > 0.9 * params


def test_lora_and_its_base_are_saved_apart(steps):
  setting = tiny_run.Setting(lora=True)
  state = tiny_run.TinyRun(setting).start()
  saved = train_state.saved_part(state, setting.model())
  names = parameter_groups.flatten(saved.params).keys()
  assert names == steps["lora"][2].names
  rest = parameter_groups.select(state.params, lambda name: name not in names)
  whole = train_state.with_base(saved, rest)
  assert jax.tree.structure(whole) == jax.tree.structure(state)
  jax.tree.map(np.testing.assert_array_equal, whole, state)
  # All of a model without LoRA is saved, what is frozen included.
  assert train_state.saved_part(state, tiny_run.MODEL) is state


def test_evaluation_sees_the_average():
  params = {"encoder": {"norm": {"scale": 1.0}}, "decoder": {"kernel": 2.0}}
  state = train_state.TrainState(0, params, None)
  assert train_state.evaluated_params(state) is params
  state = dataclasses.replace(state, average={"decoder": {"kernel": 3.0}})
  assert train_state.evaluated_params(state) == {
    "encoder": {"norm": {"scale": 1.0}},
    "decoder": {"kernel": 3.0},
  }

"""Tests of parameters chosen by name."""

import jax
import pytest

from t5tune import errors
from t5tune.training import optimizers, parameter_groups, train_state
from tests.models import tiny_t5

SPECS = train_state.Model(tiny_t5.CONFIG).param_specs()
NAMES = sorted(parameter_groups.flatten(SPECS))
LORA = {
  "decoder": {
    "layers": {"query": {"kernel": 1, "lora_a": 2, "lora_b": 3}},
    "logits_dense": {"kernel": 4},
  }
}


def make(**settings) -> optimizers.Optimizer:
  config = optimizers.OptimizerConfig(**settings)
  return optimizers.make_optimizer(config, SPECS, 10)


def test_what_is_taken_apart_is_put_together_again():
  even = lambda name: len(name) % 2 == 0  # noqa: E731
  part = parameter_groups.select(SPECS, even)
  rest = parameter_groups.select(SPECS, lambda name: not even(name))
  assert 0 < len(jax.tree.leaves(part)) < len(NAMES)
  assert parameter_groups.merge(part, rest) == SPECS
  # What is in both comes from the second.
  other = parameter_groups.map_names(str.upper, part)
  merged = parameter_groups.flatten(parameter_groups.merge(SPECS, other))
  assert merged == {
    name: name.upper() if even(name) else spec
    for name, spec in parameter_groups.flatten(SPECS).items()
  }


def test_frozen_parameters_do_not_train():
  found = make(freeze=["encoder/.*", "token_embedder/.*"])
  assert found.names == {name for name in NAMES if name.startswith("decoder/")}
  assert set(found.trainable(SPECS)) == {"decoder"}
  assert found.merge(SPECS, found.trainable(SPECS)) == SPECS
  # A stack's layers are one parameter, and a name is matched as a whole.
  found = make(freeze=["encoder/layers/mlp/wi_0/kernel"])
  assert set(NAMES) - found.names == {"encoder/layers/mlp/wi_0/kernel"}


def test_with_lora_its_factors_alone_train():
  config = optimizers.OptimizerConfig()
  found = optimizers.make_optimizer(config, LORA, 10)
  assert found.trainable(LORA) == {
    "decoder": {"layers": {"query": {"lora_a": 2, "lora_b": 3}}}
  }
  half = optimizers.OptimizerConfig(freeze=[".*/lora_a"])
  found = optimizers.make_optimizer(half, LORA, 10)
  assert found.names == {"decoder/layers/query/lora_b"}


def test_the_first_pattern_that_matches_sets_the_rate():
  scales = {".*/wi_0/kernel": 0.5, "encoder/.*": 0.1, "decoder/decoder_norm/scale": 3.0}
  factors = make(learning_rate_scales=scales, freeze=["encoder/relpos_bias/.*"]).factors
  assert factors["encoder/layers/mlp/wi_0/kernel"] == 0.5
  assert factors["decoder/layers/mlp/wi_0/kernel"] == 0.5
  assert factors["encoder/layers/mlp/wo/kernel"] == 0.1
  assert factors["decoder/decoder_norm/scale"] == 3.0
  assert "decoder/layers/mlp/wo/kernel" not in factors
  assert "encoder/relpos_bias/rel_embedding" not in factors


@pytest.mark.parametrize(
  "settings,message",
  [
    (
      {"freeze": ["encoder/layers/mlp/wi0/kernel"]},
      r"OptimizerConfig.freeze: 'encoder/layers/mlp/wi0/kernel' matches no parameter\."
      r" The nearest names are 'encoder/layers/mlp/wi_0/kernel'",
    ),
    (
      {"freeze": ["encoder/.*", "norm"]},
      r"freeze: 'norm' matches no parameter. It must match a whole name; '\.\*norm\.\*'"
      r" would match 'decoder/decoder_norm/scale' and \d+ more",
    ),
    ({"freeze": ["(encoder"]}, r"'\(encoder' is not a regular expression: missing \)"),
    ({"freeze": [".*"]}, r"freeze = \['\.\*'\] leaves no parameter to train"),
    (
      {"learning_rate_scales": {"lora_a": 2.0}},
      "learning_rate_scales: 'lora_a' matches no parameter that trains. The nearest",
    ),
    (
      {"learning_rate_scales": {"encoder/.*": 2.0}, "freeze": ["encoder/.*"]},
      "learning_rate_scales: 'encoder/.*' matches no parameter that trains",
    ),
    (
      {"learning_rate_scales": {"encoder/.*": 2.0, "encoder/layers/mlp/.*": 3.0}},
      "'encoder/layers/mlp/.*' has no effect.* the first one counts",
    ),
    (
      {"weight_decay": 0.1, "no_weight_decay": ["bias"]},
      r"no_weight_decay: 'bias' matches no parameter.*'\.\*bias\.\*' would match"
      " 'decoder/relpos_bias/rel_embedding' and 1 more",
    ),
  ],
  ids=str,
)
def test_a_pattern_without_effect_is_explained(settings, message):
  with pytest.raises(errors.UserError, match=message):
    make(**settings)


def test_freezing_every_factor_is_explained():
  config = optimizers.OptimizerConfig(freeze=[".*lora.*"])
  with pytest.raises(errors.UserError, match="leaves no factor of LoRA to train"):
    optimizers.make_optimizer(config, LORA, 10)

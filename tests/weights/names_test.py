"""The name table: every parameter has one name in each world."""

import dataclasses

import jax
import pytest
import tiny_weights

from t5tune.training import train_state
from t5tune.weights import names

SHARED = dataclasses.replace(tiny_weights.FLAN, logits_via_embedding=True)
CONFIGS = [tiny_weights.FLAN, tiny_weights.T5_1_0, SHARED]


@pytest.mark.parametrize("config", CONFIGS)
def test_the_table_is_the_models(config):
  specs = train_state.Model(config).param_specs()
  leaves = jax.tree_util.tree_leaves_with_path(specs)
  ours = {"/".join(p.key for p in path): spec.shape for path, spec in leaves}
  shapes, found = names.shapes(config), {}
  for stack, members in names.stacks(config).items():
    rows = [names.stacked(name)[1] for name in members]
    (shape,) = {shapes[name] for name in members}
    if rows == [None]:
      found[stack] = shape
    else:
      assert rows == list(range(len(members)))
      found[stack] = (len(members), *shape)
  assert found == ours


def test_hugging_face_names_of_every_kind():
  found = {n: names.hugging_face(n) for n in names.shapes(tiny_weights.FLAN)}
  assert len({theirs for theirs, _ in found.values()}) == len(found)
  encoder, decoder = "encoder.block.1.layer", "decoder.block.2.layer"
  wanted = {
    "token_embedder/embedding": ("shared.weight", False),
    "decoder/logits_dense/kernel": ("lm_head.weight", True),
    "encoder/relpos_bias/rel_embedding": (
      "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
      True,
    ),
    "decoder/decoder_norm/scale": ("decoder.final_layer_norm.weight", False),
    "encoder/layers_1/attention/query/kernel": (
      f"{encoder}.0.SelfAttention.q.weight",
      True,
    ),
    "encoder/layers_1/pre_mlp_layer_norm/scale": (
      f"{encoder}.1.layer_norm.weight",
      False,
    ),
    "encoder/layers_1/mlp/wi_0/kernel": (
      f"{encoder}.1.DenseReluDense.wi_0.weight",
      True,
    ),
    "decoder/layers_2/self_attention/out/kernel": (
      f"{decoder}.0.SelfAttention.o.weight",
      True,
    ),
    "decoder/layers_2/pre_cross_attention_layer_norm/scale": (
      f"{decoder}.1.layer_norm.weight",
      False,
    ),
    "decoder/layers_2/encoder_decoder_attention/key/kernel": (
      f"{decoder}.1.EncDecAttention.k.weight",
      True,
    ),
    "decoder/layers_2/mlp/wo/kernel": (f"{decoder}.2.DenseReluDense.wo.weight", True),
  }
  assert {n: found[n] for n in wanted} == wanted

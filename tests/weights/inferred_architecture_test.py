"""Tests of architectures told from shapes."""

import itertools
import re

import pytest

from t5tune import errors
from t5tune.models import t5
from t5tune.weights import architecture, names

CONFIG = t5.T5Config(8, 2, 4, 12, 2, 3, vocab_size=16)


@pytest.mark.parametrize("activations", [("gelu", "linear"), ("relu",)])
@pytest.mark.parametrize("tied", [False, True])
def test_the_architecture_is_told_from_its_shapes(activations, tied):
  sizes = itertools.product((8, 24), (1, 6), (4, 5), (8, 12), (1, 2), (1, 11), (8, 32))
  for emb_dim, heads, head_dim, mlp_dim, encoder, decoder, buckets in sizes:
    config = t5.T5Config(
      emb_dim,
      heads,
      head_dim,
      mlp_dim,
      encoder,
      decoder,
      vocab_size=16,
      mlp_activations=activations,
      logits_via_embedding=tied,
      relpos_buckets=buckets,
    )
    assert architecture.infer("here", names.shapes(config)) == config


def without(pattern: str) -> dict[str, tuple[int, ...]]:
  shapes = names.shapes(CONFIG)
  left = {n: s for n, s in shapes.items() if not re.match(pattern, n)}
  assert len(left) < len(shapes)
  return left


@pytest.mark.parametrize(
  ("shapes", "words"),
  [
    (without("encoder/"), ["encoder/relpos_bias/rel_embedding", "decoder-only"]),
    (without("decoder/"), ["decoder/layers_0", "no decoder"]),
    (without("token_embedder"), ["token_embedder/embedding is missing"]),
    (without("encoder/layers_0/mlp/wi_1"), ["encoder/layers_0/mlp", "wi_0", "another"]),
    (without("encoder/layers_0/mlp/wi_"), ["encoder/layers_0/mlp", "none"]),
    ({"params/Dense_0/kernel": (3, 4)}, ["token_embedder/embedding", "params/Dense_0"]),
    ({}, ["token_embedder/embedding", "no parameters"]),
    (
      without("token_embedder") | {"token_embed/embedding": (16, 8)},
      ["token_embedder/embedding is missing", "'token_embed/embedding' is there"],
    ),
    (
      names.shapes(CONFIG) | {"encoder/relpos_bias/rel_embedding": (3, 32)},
      ["encoder/layers_0/attention/query/kernel", "8 columns", "3 heads"],
    ),
    (
      names.shapes(CONFIG) | {"encoder/layers_0/attention/query/kernel": (8, 2, 4)},
      ["encoder/layers_0/attention/query/kernel", "(8, 2, 4)", "matrix"],
    ),
  ],
)
def test_other_networks_are_refused_by_name(shapes, words):
  with pytest.raises(errors.UserError) as e:
    architecture.infer("here/checkpoint_1", shapes)
  for word in ["here/checkpoint_1", *words]:
    assert word in str(e.value), str(e.value)

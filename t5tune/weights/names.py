"""The name table: what a parameter is called in T5X, in Hugging Face and here.

T5X's names (with numbered layers, as its minimal network has them) stand in the
middle: every reader gives tensors under them, every writer takes them.

    encoder/layers_1/attention/query/kernel            T5X, (d, h*k)
    encoder.block.1.layer.0.SelfAttention.q.weight     Hugging Face, transposed
    encoder/layers/attention/query/kernel, row 1       t5tune, layers stacked
"""

import re

from t5tune.models import t5

EMBEDDING = "token_embedder/embedding"
LOGITS = "decoder/logits_dense/kernel"
_LAYER = re.compile(r"(.*/layers)_(\d+)(/.*)")

_ATTENTION = ("query", "key", "value", "out")
# Sub-layer, T5X's module -> Hugging Face's number and module, of either stack.
_HF_MODULES = {
  "encoder": {
    "pre_attention_layer_norm": (0, "layer_norm"),
    "attention": (0, "SelfAttention"),
    "pre_mlp_layer_norm": (1, "layer_norm"),
    "mlp": (1, "DenseReluDense"),
  },
  "decoder": {
    "pre_self_attention_layer_norm": (0, "layer_norm"),
    "self_attention": (0, "SelfAttention"),
    "pre_cross_attention_layer_norm": (1, "layer_norm"),
    "encoder_decoder_attention": (1, "EncDecAttention"),
    "pre_mlp_layer_norm": (2, "layer_norm"),
    "mlp": (2, "DenseReluDense"),
  },
}


def shapes(config: t5.T5Config) -> dict[str, tuple[int, ...]]:
  """Returns the shape of every parameter of an architecture, under T5X's names.

  Args:
    config: the architecture, its `vocab_size` filled in.
  """
  d, f, joined = config.emb_dim, config.mlp_dim, config.num_heads * config.head_dim
  gated = len(config.mlp_activations) > 1
  mlp_inputs = (
    [f"wi_{i}" for i in range(len(config.mlp_activations))] if gated else ["wi"]
  )
  found = {EMBEDDING: (config.vocab_size, d)}
  counts = {"encoder": config.num_encoder_layers, "decoder": config.num_decoder_layers}
  for stack, count in counts.items():
    bias = (config.num_heads, config.relpos_buckets)
    found[f"{stack}/relpos_bias/rel_embedding"] = bias
    for i in range(count):
      for module in _HF_MODULES[stack]:
        inside = f"{stack}/layers_{i}/{module}"
        if module.endswith("norm"):
          found[f"{inside}/scale"] = (d,)
        elif module == "mlp":
          found.update({f"{inside}/{wi}/kernel": (d, f) for wi in mlp_inputs})
          found[f"{inside}/wo/kernel"] = (f, d)
        else:
          for part in _ATTENTION:
            shape = (joined, d) if part == "out" else (d, joined)
            found[f"{inside}/{part}/kernel"] = shape
    found[f"{stack}/{stack}_norm/scale"] = (d,)
  if not config.logits_via_embedding:
    found[LOGITS] = (d, config.vocab_size)
  return found


def hugging_face(name: str) -> tuple[str, bool]:
  """Returns Hugging Face's name of a parameter, and whether it is transposed there.

  Args:
    name: T5X's name, one of `shapes`.
  """
  if name == EMBEDDING:
    return "shared.weight", False
  if name == LOGITS:
    return "lm_head.weight", True
  stack, part, *rest = name.split("/")
  if part == "relpos_bias":
    block = f"{stack}.block.0.layer.0.SelfAttention"
    return f"{block}.relative_attention_bias.weight", True
  if part == f"{stack}_norm":
    return f"{stack}.final_layer_norm.weight", False
  layer = part.removeprefix("layers_")
  number, module = _HF_MODULES[stack][rest[0]]
  block = f"{stack}.block.{layer}.layer.{number}.{module}"
  if rest[1] == "scale":
    return f"{block}.weight", False
  kernel = rest[1] if rest[0] == "mlp" else rest[1][0]  # query -> q, out -> o
  return f"{block}.{kernel}.weight", True


def stacked(name: str) -> tuple[str, int | None]:
  """Returns the name here of a parameter, and its row of a stack or None.

  Args:
    name: T5X's name, one of `shapes`.
  """
  found = _LAYER.fullmatch(name)
  return (found[1] + found[3], int(found[2])) if found else (name, None)


def stacks(config: t5.T5Config) -> dict[str, list[str]]:
  """Returns the parameters here, each with T5X's names of its rows in order."""
  found: dict[str, list[str]] = {}
  for name in shapes(config):
    found.setdefault(stacked(name)[0], []).append(name)
  return found

"""Hugging Face's config.json as an architecture, and back."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from t5tune import errors
from t5tune.models import t5

# Hugging Face's `feed_forward_proj`. Its 'gated-gelu' is the tanh approximation, as
# T5's is; its plain 'gelu' is not.
_ACTIVATIONS = {
  "relu": ("relu",),
  "gelu_new": ("gelu",),
  "gated-gelu": ("gelu", "linear"),
  "gated-relu": ("relu", "linear"),
}
_SIZES = {
  "d_model": "emb_dim",
  "num_heads": "num_heads",
  "d_kv": "head_dim",
  "d_ff": "mlp_dim",
  "num_layers": "num_encoder_layers",
  "num_decoder_layers": "num_decoder_layers",
  "vocab_size": "vocab_size",
  "relative_attention_num_buckets": "relpos_buckets",
  "relative_attention_max_distance": "relpos_max_distance",
}
# What a config.json need not say (Hugging Face's T5Config).
_DEFAULTS = {
  "relative_attention_num_buckets": 32,
  "relative_attention_max_distance": 128,
}


def read(path: pathlib.Path) -> dict[str, Any]:
  """Reads a config.json and checks that it is a T5's.

  Args:
    path: the file.

  Raises:
    UserError: it cannot be read, or is another model's.
  """
  try:
    values = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError) as e:
    reason = e.strerror if isinstance(e, OSError) else f"not JSON ({e})"
    raise errors.UserError(
      f"{path} cannot be read: {reason}. Get it anew from where the weights came from."
    ) from e
  kind = values.get("model_type") if isinstance(values, dict) else None
  if kind != "t5":
    raise errors.UserError(
      f"{path}: model_type is {kind!r}. t5tune reads T5, T5 1.1 and FLAN-T5, whose"
      " model_type is 't5'; name weights of one of these, such as"
      " google/flan-t5-base."
    )
  names = values.get("architectures") or ["T5ForConditionalGeneration"]
  with_decoder = ("T5ForConditionalGeneration", "T5WithLMHeadModel", "T5Model")
  if not isinstance(names, list) or not any(n in with_decoder for n in names):
    raise errors.UserError(
      f"{path}: architectures is {names}, not an encoder-decoder such as"
      " ['T5ForConditionalGeneration']. Name the weights of a whole T5."
    )
  return values


def architecture(
  path: pathlib.Path, values: Mapping[str, Any], tied: bool
) -> t5.T5Config:
  """Returns the architecture that a config.json describes.

  Args:
    path: the file, for messages.
    values: its content, from `read`.
    tied: whether the weights hold no output layer of their own. The file does not
      tell: transformers 5 writes `tie_word_embeddings: true` for untied models.

  Raises:
    UserError: a size is missing, or something is not T5's.
  """
  values = {**_DEFAULTS, **values}
  if values.get("num_decoder_layers") is None:
    values["num_decoder_layers"] = values.get("num_layers")
  for name in _SIZES:
    value = values.get(name)
    if type(value) is not int or value < 1:
      raise errors.UserError(
        f"{path}: {name} is {json.dumps(value)}, where a positive integer is needed."
      )
  projection = values.get("feed_forward_proj", "relu")
  if not isinstance(projection, str) or projection not in _ACTIVATIONS:
    raise errors.UserError(
      f"{path}: feed_forward_proj is {json.dumps(projection)}; T5's are"
      f" {', '.join(map(repr, _ACTIVATIONS))}."
    )
  epsilon = values.get("layer_norm_epsilon", 1e-6)
  if epsilon != 1e-6:
    raise errors.UserError(
      f"{path}: layer_norm_epsilon is {epsilon}; T5's layer norm has 1e-06."
    )
  # Without a key of its own, scaling follows what the file says of tying.
  scaled = values.get("scale_decoder_outputs", values.get("tie_word_embeddings", True))
  return t5.T5Config(
    **{ours: values[theirs] for theirs, ours in _SIZES.items()},
    mlp_activations=_ACTIVATIONS[projection],
    logits_via_embedding=tied,
    scale_decoder_outputs=None if bool(scaled) == tied else bool(scaled),
  )


def to_json(config: t5.T5Config, dtype: str) -> dict[str, Any]:
  """Returns the config.json of an architecture, for transformers 4 and 5.

  An untied model says `tie_word_embeddings: false`, which both load right where its
  weights hold `lm_head.weight`; the form of transformers 5 itself is loaded tied and
  scaled by transformers 4, in silence.

  Args:
    config: the architecture.
    dtype: dtype of the tensors in the file.

  Raises:
    UserError: Hugging Face's T5 has no such architecture.
  """
  projections = {v: k for k, v in _ACTIVATIONS.items()}
  if config.mlp_activations not in projections:
    raise errors.UserError(
      f"Hugging Face's T5 knows no feed-forward block with {config.mlp_activations};"
      f" it knows {', '.join(map(str, projections))}."
    )
  projection = projections[config.mlp_activations]
  act = projection.removeprefix("gated-")
  return {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    **{theirs: getattr(config, ours) for theirs, ours in _SIZES.items()},
    "feed_forward_proj": projection,
    "dense_act_fn": "gelu_new" if act == "gelu" else act,
    "is_gated_act": projection.startswith("gated-"),
    "dropout_rate": config.dropout_rate,
    "layer_norm_epsilon": 1e-6,
    "initializer_factor": 1.0,
    "tie_word_embeddings": config.logits_via_embedding,
    "scale_decoder_outputs": config.scales_decoder_outputs,
    "is_encoder_decoder": True,
    "use_cache": True,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "torch_dtype": dtype,
  }

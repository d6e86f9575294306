"""Infers the architecture of a T5 from the shapes of its parameters."""

import re
from collections.abc import Mapping

from t5tune import errors
from t5tune.models import t5
from t5tune.weights import names

_BIAS = "encoder/relpos_bias/rel_embedding"
_QUERY = "encoder/layers_0/attention/query/kernel"
_MLP_INPUT = re.compile(r"encoder/layers_0/mlp/(wi(?:_\d+)?)/kernel")


def infer(origin: str, shapes: Mapping[str, tuple[int, ...]]) -> t5.T5Config:
  """Returns the architecture that parameters of these shapes are of.

  What shapes cannot tell (which activations a gated MLP has, the longest distance
  of the relative positions) is as `T5Config` has it.

  Args:
    origin: the checkpoint, for messages.
    shapes: T5X's names with numbered layers -> shape.

  Raises:
    UserError: they are no T5's; the message names a parameter.
  """
  vocab_size, emb_dim = _matrix(origin, shapes, names.EMBEDDING)
  num_heads, relpos_buckets = _matrix(origin, shapes, _BIAS)
  joined = _matrix(origin, shapes, _QUERY)[1]
  if joined % num_heads:
    raise errors.UserError(
      f"{origin}: parameter {_QUERY} has {joined} columns, which {num_heads} heads"
      f" ({_BIAS}) cannot share. This is not a T5."
    )
  inputs = sorted(found[1] for found in map(_MLP_INPUT.fullmatch, shapes) if found)
  if inputs not in (["wi"], ["wi_0", "wi_1"]):
    raise errors.UserError(
      f"{origin}: encoder/layers_0/mlp has the input kernels"
      f" {', '.join(inputs) or 'none'}, where a T5 has wi (T5 1.0) or wi_0 and wi_1"
      " (T5 1.1, FLAN-T5). This is another network."
    )
  return t5.T5Config(
    emb_dim=emb_dim,
    num_heads=num_heads,
    head_dim=joined // num_heads,
    mlp_dim=_matrix(origin, shapes, f"encoder/layers_0/mlp/{inputs[0]}/kernel")[1],
    num_encoder_layers=_layers(origin, shapes, "encoder"),
    num_decoder_layers=_layers(origin, shapes, "decoder"),
    vocab_size=vocab_size,
    mlp_activations=("relu",) if len(inputs) == 1 else t5.T5Config.mlp_activations,
    logits_via_embedding=names.LOGITS not in shapes,
    relpos_buckets=relpos_buckets,
  )


def _matrix(
  origin: str, shapes: Mapping[str, tuple[int, ...]], name: str
) -> tuple[int, int]:
  if name not in shapes:
    raise errors.UserError(
      f"{origin}: parameter {name} is missing{_why(shapes, name)}. t5tune reads the"
      " encoder-decoder T5 that T5X calls minimal (T5 1.0, T5 1.1, FLAN-T5)."
    )
  if len(shapes[name]) != 2 or 0 in shapes[name]:
    raise errors.UserError(
      f"{origin}: parameter {name} has shape {tuple(shapes[name])}, where a matrix is"
      " wanted. This is another network than T5X's minimal T5."
    )
  return tuple(shapes[name])


def _layers(origin: str, shapes: Mapping[str, tuple[int, ...]], stack: str) -> int:
  """Returns how many layers a stack has; `check_shapes` finds holes in it."""
  found = [re.match(rf"{stack}/layers_(\d+)/", name) for name in shapes]
  count = 1 + max((int(layer[1]) for layer in found if layer), default=-1)
  if not count:
    raise errors.UserError(
      f"{origin} has no {stack}/layers_0{_why(shapes, stack + '/')}. t5tune reads"
      " encoder-decoder T5s only."
    )
  return count


def _why(shapes: Mapping[str, tuple[int, ...]], name: str) -> str:
  """Returns " (...)" with what is there instead of a parameter."""
  tops = {name.split("/")[0] for name in shapes}
  if "decoder" in tops and "encoder" not in tops:
    return " (there is a decoder and no encoder: this is a decoder-only language model)"
  if "encoder" in tops and "decoder" not in tops:
    return " (there is an encoder and no decoder)"
  if near := errors.did_you_mean(name, shapes, 2):
    return f" ({near.removeprefix(' Did you mean ').rstrip('?')} is there)"
  return f" (there are: {', '.join(sorted(shapes)[:3]) or 'no parameters'}, ...)"

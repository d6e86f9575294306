"""Reads an export back and compares what it computes with what its source does."""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
from flax import nnx

from t5tune import errors
from t5tune.models import t5
from t5tune.weights import hf_export, huggingface, names, weights

_ROWS, _INPUT_LENGTH, _TARGET_LENGTH = 2, 24, 12
_LIMIT = 1e-6  # largest difference of equal weights, as a share of the largest logit


def compare(
  source: weights.Weights, folder: pathlib.Path, dtype: str
) -> dict[str, Any]:
  """Compares the logits of a Hugging Face export with those of its source.

  Args:
    source: what was exported.
    folder: the export.
    dtype: dtype of its tensors.

  Returns:
    `rows` that were compared, the largest `difference` of their logits, the `scale`
    of the logits, and `dtype`.

  Raises:
    UserError: they differ by more than rounding to the dtype explains.
  """
  rng = np.random.default_rng(0)
  inputs, targets = (
    rng.integers(3, source.config.vocab_size, (_ROWS, length), dtype=np.int32)
    for length in (_INPUT_LENGTH, _TARGET_LENGTH)
  )
  wanted = logits(source, inputs, targets)
  found = logits(huggingface.open_directory(folder), inputs, targets)
  difference = float(np.abs(found - wanted).max())
  scale = float(np.abs(wanted).max())
  damage = difference
  if dtype != "float32":  # what rounding explains is no damage
    rounded = lambda name: source.read(name).astype(hf_export.DTYPES[dtype])  # noqa: E731
    wanted = logits(dataclasses.replace(source, read=rounded), inputs, targets)
    damage = float(np.abs(found - wanted).max())
  if not damage <= _LIMIT * scale:
    raise errors.UserError(
      f"{folder.name}: read back, its logits differ from those of what was written by"
      f" {damage:.3g} at a scale of {scale:.3g}. The disk may be damaged; nothing was"
      " kept."
    )
  return {"rows": _ROWS, "difference": difference, "scale": scale, "dtype": dtype}


def logits(
  source: weights.Weights, encoder_tokens: np.ndarray, decoder_tokens: np.ndarray
) -> np.ndarray:
  """Computes logits with only one half of the parameters in memory at a time.

  The same as `t5.T5.__call__` of unpadded rows.

  Args:
    source: the weights.
    encoder_tokens: int32 (b, s).
    decoder_tokens: int32 (b, t).

  Returns:
    float32 (b, t, v).
  """
  config = dataclasses.replace(source.config, dtype="float32", layer_loop="scan")
  s, t = (np.ones_like(tokens) for tokens in (encoder_tokens, decoder_tokens))
  embedding = source.tensor(names.EMBEDDING).astype(np.float32)
  encoded = _run(source, "encoder", t5.Encoder, config, embedding[encoder_tokens], s)
  x = embedding[decoder_tokens]
  x = _run(source, "decoder", t5.Decoder, config, x, encoded, t, s)
  if config.scales_decoder_outputs:
    x = x * config.emb_dim**-0.5
  if config.logits_via_embedding:
    return x @ embedding.T
  del embedding
  return x @ source.tensor(names.LOGITS).astype(np.float32)


def _run(source: weights.Weights, part: str, module, config, *inputs) -> np.ndarray:
  """Runs the encoder or the decoder, and lets its parameters go."""
  abstract = nnx.eval_shape(lambda: module(config, nnx.Rngs(0)))
  graphdef, state = nnx.split(abstract)
  structure = jax.tree.structure(state)

  def forward(params, *inputs):
    merged = nnx.merge(graphdef, jax.tree.unflatten(structure, jax.tree.leaves(params)))
    return merged(*inputs, None)

  params = source.nested(lambda name, x: jax.numpy.asarray(x), part=f"{part}/")
  return np.asarray(jax.jit(forward)(params[part], *inputs))

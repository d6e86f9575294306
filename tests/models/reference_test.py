"""The model computes what a plain float64 T5 computes."""

import dataclasses

import numpy as np
import pytest

from t5tune.training import train_state
from t5tune.weights import weights
from tests.models import reference, tiny_t5
from tests.weights import tiny_weights
from tests.weights.tiny_weights import FLAN, T5_1_0

CONFIGS = {
  "FLAN": FLAN,
  "1.0": T5_1_0,
  "tied, not scaled": dataclasses.replace(T5_1_0, scale_decoder_outputs=False),
  "scaled, not tied": dataclasses.replace(FLAN, scale_decoder_outputs=True),
  "few buckets": dataclasses.replace(FLAN, relpos_buckets=8, relpos_max_distance=20),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_logits_of_padded_rows(config):
  tensors = tiny_weights.tensors(config)
  plain = reference.Reference(config, tensors)
  shapes = {name: value.shape for name, value in tensors.items()}
  opened = weights.Weights("memory", config, shapes, tensors.__getitem__)
  params = opened.nested(lambda name, value: value)
  rng = np.random.default_rng(1)
  # Both stacks pass the distance from which all keys share a bucket.
  rows = [
    [rng.integers(2, config.vocab_size, n) for n in lengths]
    for lengths in ((160, 150), (133, 40), (1, 1))
  ]

  def padded(values, length):
    return np.stack([np.pad(x, (0, length - len(x))) for x in values]).astype(np.int32)

  inputs, targets = (
    padded([row[i] for row in rows], n) for i, n in ((0, 160), (1, 150))
  )
  ones = [[np.ones_like(x) for x in row] for row in rows]
  batch = {
    "encoder_input_tokens": inputs,
    "decoder_input_tokens": targets,
    "encoder_segment_ids": padded([row[0] for row in ones], 160),
    "decoder_segment_ids": padded([row[1] for row in ones], 150),
  }
  found = tiny_t5.forward(train_state.Model(config))(params, batch)
  for row, (encoder_tokens, decoder_tokens) in zip(found, rows, strict=True):
    wanted = plain.logits(encoder_tokens, decoder_tokens)
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(row[: len(wanted)], wanted, atol=2e-5 * scale)

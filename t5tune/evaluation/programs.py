"""The programs that evaluation and generation compile."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from t5tune import errors, partitioning
from t5tune.models import beam_search, decoding, encoding, logit_rules, sampling
from t5tune.training import losses
from t5tune.training.train_state import Model

GREEDY = beam_search.BeamConfig(num_beams=1)


@dataclasses.dataclass(frozen=True)
class DecodeConfig:
  """How a batch is decoded: greedily, by beam search or by sampling.

  Attributes:
    max_length: most tokens decoded, the end of sequence included.
    beam: the search; with one beam, greedy decoding.
    draw: how tokens are drawn; None to search.
    rules: tokens that may not come next.
  """

  max_length: int
  beam: beam_search.BeamConfig = GREEDY
  draw: sampling.SamplingConfig | None = None
  rules: logit_rules.LogitRules = logit_rules.NONE

  def __post_init__(self):
    if self.draw and self.beam.num_beams > 1:
      raise errors.UserError(
        f"{self.beam.num_beams} beams and sampling: give one of them."
      )


@dataclasses.dataclass(frozen=True)
class EvalConfig:
  """How to evaluate.

  Attributes:
    batch_size: rows decoded together.
    input_length: longest input.
    target_length: longest target, and most tokens decoded for any task.
    beam: how to decode; with one beam, greedily.
  """

  batch_size: int
  input_length: int
  target_length: int
  beam: beam_search.BeamConfig = GREEDY

  def decode_length(self, longest: int) -> int:
    """Returns how many tokens are decoded for a task.

    Args:
      longest: tokens of its longest reference.
    """
    return bucket(longest, self.target_length)


def bucket(longest: int, full: int) -> int:
  """Returns a length for a batch: one of a few, for each is a compilation.

  Args:
    longest: tokens of what is longest in it.
    full: the longest there may be.
  """
  buckets = [n for n in (full // 4, full // 2) if n >= 32] + [full]
  return next(n for n in buckets if n >= longest)


def jit_encode(model: Model) -> Any:
  """Returns the jitted encoder.

  Args:
    model: the model.

  Returns:
    A function of parameters, input tokens (b, s) and their segment ids (b, s), both
    int32, to (b, s, d); decoding and losses share it.
  """

  def encode(params, tokens, segment_ids):
    return encoding.encode(model.merge(params), tokens, segment_ids)

  return jax.jit(encode)


def jit_decode(model: Model, mesh: Mesh, config: DecodeConfig) -> Any:
  """Returns the jitted decoding of a batch.

  Args:
    model: the model.
    mesh: the mesh; every device gets all answers.
    config: how to decode.

  Returns:
    A function of parameters, encoded inputs (b, s, d), their int32 segment ids (b, s),
    and of PRNG keys (b,), which sampling alone needs, to sequences int32
    (b, n, max_length), the best first, and their scores float32 (b, n); those of greedy
    decoding are 0.
  """

  def decode(params, encoded, segment_ids, row_keys=None):
    inputs = (model.merge(params), encoded, segment_ids)
    if config.draw:
      return sampling.sample(
        *inputs, row_keys, config.max_length, config.draw, config.rules
      )
    if config.beam.num_beams == 1:
      outputs = decoding.greedy(*inputs, config.max_length, config.rules)
      return outputs[:, None], jnp.zeros((len(outputs), 1))
    return beam_search.beam_search(
      *inputs, config.max_length, config.beam, config.rules
    )

  return jax.jit(decode, out_shardings=partitioning.replicated(mesh))


def jit_losses(model: Model, mesh: Mesh) -> Any:
  """Returns the jitted losses of a batch, without dropout.

  Args:
    model: the model.
    mesh: the mesh; every device gets the sums.

  Returns:
    A function of parameters, encoded inputs (b, s, d), their int32 segment ids (b, s),
    and a batch of targets as the training step takes it, to two float32 sums: the
    negative log likelihood of the targets, in nats, and their number.
  """

  def summed(params, encoded, segment_ids, batch):
    logits = model.merge(params).decode(
      encoded,
      segment_ids,
      batch["decoder_input_tokens"],
      batch["decoder_segment_ids"],
    )
    nll, _ = losses.token_losses(logits, batch["decoder_target_tokens"])
    weights = batch["decoder_loss_weights"]
    return jnp.sum(nll * weights), jnp.sum(weights)

  return jax.jit(summed, out_shardings=partitioning.replicated(mesh))

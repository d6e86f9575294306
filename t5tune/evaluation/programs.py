"""The programs that an evaluation compiles."""

import dataclasses
from typing import Any

import jax
from jax.sharding import Mesh

from t5tune import partitioning
from t5tune.models import beam_search, decoding
from t5tune.training import train_step
from t5tune.training.train_state import Model


@dataclasses.dataclass(frozen=True)
class EvalConfig:
  """How to evaluate.

  Attributes:
    batch_size: rows decoded together.
    input_length: longest input.
    target_length: longest target, and most tokens decoded.
    beam: how to decode; with one beam, greedily.
  """

  batch_size: int
  input_length: int
  target_length: int
  beam: beam_search.BeamConfig = beam_search.BeamConfig(num_beams=1)


def jit_decode(model: Model, mesh: Mesh, config: EvalConfig) -> Any:
  """Returns the jitted decoding of a batch.

  Args:
    model: the model.
    mesh: the mesh; every device gets all answers.
    config: how to decode.

  Returns:
    A function of parameters, input tokens (b, s) and their segment ids (b, s), both
    int32, to tokens int32 (b, target_length).
  """

  def decode(params, *inputs):
    module = model.merge(params)
    if config.beam.num_beams == 1:
      return decoding.greedy(module, *inputs, config.target_length)
    length = config.target_length
    return beam_search.beam_search(module, *inputs, length, config.beam)[0][:, 0]

  return jax.jit(decode, out_shardings=partitioning.replicated(mesh))


def jit_loss(model: Model, mesh: Mesh) -> Any:
  """Returns the jitted loss of a batch, without dropout.

  Args:
    model: the model.
    mesh: the mesh; every device gets the sums.

  Returns:
    A function of parameters and a batch to `train_step.batch_loss`'s sums.
  """

  def loss(params, batch):
    return train_step.batch_loss(model, params, batch, None)

  return jax.jit(loss, out_shardings=partitioning.replicated(mesh))

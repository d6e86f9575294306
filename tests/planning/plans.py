"""A run small enough to be planned in seconds, and a machine of any memory."""

import dataclasses

import jax

from t5tune import run
from t5tune.models import t5
from t5tune.planning import chips
from t5tune.training import optimizers

MODEL = t5.T5Config(
  emb_dim=32,
  num_heads=4,
  head_dim=8,
  mlp_dim=64,
  num_encoder_layers=2,
  num_decoder_layers=2,
  vocab_size=128,
  layer_loop="scan",
)
RUN = run.Run(
  mixture="tiny",
  init="scratch",
  model=MODEL,
  optimizer=optimizers.OptimizerConfig(),
  batch_size=16,
  input_length=64,
  target_length=16,
  pack=False,
  train_steps=10,
)


def run_with(**settings) -> run.Run:
  """Returns the run with other settings; those of `T5Config` go to its model."""
  fields = {f.name for f in dataclasses.fields(t5.T5Config)}
  model = {k: v for k, v in settings.items() if k in fields}
  rest = {k: v for k, v in settings.items() if k not in fields}
  model = dataclasses.replace(RUN.model, **model)
  return dataclasses.replace(RUN, model=model, **rest)


def machine(memory: float, count: int = 8) -> tuple[chips.Topology, list]:
  """Returns a machine of so many bytes a device, and its devices."""
  chip = dataclasses.replace(chips.CHIPS["h100"], name="small", hbm=memory)
  return chips.Topology("small", chip, count), jax.devices()[:count]

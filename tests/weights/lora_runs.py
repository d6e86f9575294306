"""Work directories of runs with LoRA, as training leaves them, without training."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
from tiny_weights import FLAN

from t5tune import partitioning
from t5tune.models import lora
from t5tune.training import array_checksums, checkpoints, train_state, workdir
from t5tune.weights import adapters, names, pretrained

LORA = lora.LoraConfig(rank=3, alpha=6.0, targets=("value", "out", "wi_1"))
CONFIG = dataclasses.replace(FLAN, lora=LORA)
MODEL = train_state.Model(CONFIG)
MESH = partitioning.make_mesh({}, jax.devices()[:1])
STEP = 7


def write(folder, init: str, seed: int = 0, vocabulary=None) -> dict[str, np.ndarray]:
  """Writes the work directory of a run with LoRA.

  Args:
    folder: the new directory.
    init: what the run started from.
    seed: the run's seed.
    vocabulary: a SentencePiece model to keep in it, or None.

  Returns:
    name of a factor here -> float32 array.
  """
  base = pretrained.base_params(pretrained.open_weights(init), MODEL, MESH, seed)
  rng = np.random.default_rng(seed)
  params = jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32) * 0.2,
    pretrained.with_fresh_factors(base, MODEL, MESH, seed),
  )
  state = train_state.TrainState(jnp.int32(STEP), params, {})
  part = train_state.saved_part(state, MODEL)
  saved = checkpoints.Checkpoints(folder / "checkpoints")
  saved.save(part, {"base": adapters.describe_base(init, seed, base)})
  saved.close()
  identity = {"model": workdir.model_identity(CONFIG)}
  workdir.write_atomically(folder / "run.json", json.dumps(identity))
  if vocabulary:
    workdir.write_atomically(workdir.vocabulary(folder), vocabulary.read_bytes())
  return {n: np.asarray(x) for n, x in array_checksums.by_path(part.params).items()}


def merged(made, factors) -> dict[str, np.ndarray]:
  """Returns base tensors under T5X's names with the factors added, in float64."""
  found = {}
  for name, value in made.items():
    stack, row = names.stacked(name)
    module = stack.rpartition("/")[0]
    if f"{module}/lora_a" in factors:
      a, b = (factors[f"{module}/{f}"][row].astype(np.float64) for f in lora.FACTORS)
      value = value + 2.0 * (a @ b)
    found[name] = value
  return found

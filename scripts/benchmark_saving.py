"""How much longer steps take while a checkpoint is being written.

    python scripts/benchmark_saving.py                    # FLAN-T5 base on this machine
    python scripts/benchmark_saving.py --layers=2 --repeats=5

Trains a model of FLAN-T5 base's width (250 million parameters) on random tokens. In turn,
some steps run alone, and some while a checkpoint is written in the background, the call
that begins it included: so a noisy machine slows both alike. Prints the seconds a step of
each takes and their ratio.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time

import jax
import numpy as np

from t5tune import partitioning
from t5tune.models import t5
from t5tune.training import checkpoints, optimizers, train_state, train_step

BASE = {"emb_dim": 768, "num_heads": 12, "head_dim": 64, "mlp_dim": 2048}


def random_batch(mesh, rows: int, lengths: tuple[int, int], vocab_size: int):
  """Returns a batch of full rows on the mesh; see `train_step.batch_loss`."""
  rng = np.random.default_rng(0)
  inputs, targets = (rng.integers(3, vocab_size, (rows, n)) for n in lengths)
  ones = [np.ones((rows, n), np.int32) for n in lengths]
  batch = {
    "encoder_input_tokens": inputs.astype(np.int32),
    "encoder_segment_ids": ones[0],
    "decoder_input_tokens": targets.astype(np.int32),
    "decoder_target_tokens": targets.astype(np.int32),
    "decoder_segment_ids": ones[1],
    "decoder_loss_weights": ones[1].astype(np.float32),
  }
  place = lambda x: partitioning.sharding(mesh, ("batch", "length"), x.shape)  # noqa: E731
  return {name: jax.device_put(x, place(x)) for name, x in batch.items()}


class Training:
  """A model in training, without data or a loop."""

  def __init__(self, layers: int, rows: int, lengths: tuple[int, int]):
    mesh = partitioning.make_mesh({"data": -1})
    config = t5.T5Config(
      vocab_size=32128,
      num_encoder_layers=layers,
      num_decoder_layers=layers,
      mlp_activations=("gelu", "linear"),
      logits_via_embedding=False,
      dtype="float32",
      **BASE,
    )
    self.model = train_state.Model(config)
    optimizer = optimizers.make_optimizer(
      optimizers.OptimizerConfig("adafactor", learning_rate=1e-3),
      self.model.param_specs(),
      1000,
    )
    shardings = train_state.state_shardings(self.model, optimizer, mesh)
    self._update = jax.jit(
      train_step.make_train_step(self.model, optimizer),
      donate_argnums=0,
      out_shardings=(shardings, partitioning.replicated(mesh)),
    )
    self._mesh, self._key = mesh, jax.random.key(0)
    self._batch = random_batch(mesh, rows, lengths, config.vocab_size)
    with jax.set_mesh(mesh):
      self.state = train_state.create(self.model, optimizer, mesh, 0)
    self.step()  # compiles

  def step(self) -> None:
    with jax.set_mesh(self._mesh):
      self.state, metrics = self._update(self.state, self._batch, self._key)
      jax.block_until_ready(metrics["loss"])


def steps_alone(training: Training, count: int) -> list[float]:
  """Returns the seconds of each of some steps."""
  times = []
  for _ in range(count):
    began = time.perf_counter()
    training.step()
    times.append(time.perf_counter() - began)
  return times


def steps_while_saving(training: Training, saved) -> list[float]:
  """Returns the seconds of each step until a checkpoint that is begun is on disk."""
  times, step = [], int(training.state.step)
  began = time.perf_counter()
  saved.save(training.state, {"best": {"score": None}})
  while not times or step not in saved.steps():
    training.step()
    times.append(time.perf_counter() - began)
    began = time.perf_counter()
  saved.wait()
  return times


def main() -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--layers", type=int, default=12, help="of encoder and decoder")
  parser.add_argument("--rows", type=int, default=4, help="of a batch")
  parser.add_argument("--lengths", type=int, nargs=2, default=(256, 64))
  parser.add_argument("--repeats", type=int, default=5, help="checkpoints written")
  parser.add_argument("--workdir", help="where to write them (default: a new folder)")
  flags = parser.parse_args()
  training = Training(flags.layers, flags.rows, tuple(flags.lengths))
  print(f"{training.model.num_params():,} parameters, {jax.devices()[0].device_kind}")
  ratios, firsts = [], []
  with tempfile.TemporaryDirectory(dir=flags.workdir) as folder:
    saved = checkpoints.Checkpoints(pathlib.Path(folder))
    steps_while_saving(training, saved)  # compiles what the checksums take
    for _ in range(flags.repeats):
      saving = steps_while_saving(training, saved)
      alone = steps_alone(training, max(len(saving), 3))
      ratios.append(statistics.mean(saving) / statistics.mean(alone))
      firsts.append(saving[0] / statistics.mean(alone))
      print(
        f"alone {statistics.mean(alone):.2f} s a step, saving"
        f" {' '.join(f'{t:.2f}' for t in saving)} s: {ratios[-1]:.2f} times,"
        f" the first {firsts[-1]:.2f}",
        flush=True,
      )
    saved.close()
    size = sum(p.stat().st_size for p in pathlib.Path(folder).rglob("*") if p.is_file())
  print(f"checkpoint of {size / 2**30:.2f} GiB")
  print(
    f"step while saving: {statistics.median(ratios):.2f} times the ordinary step"
    f" (median of {len(ratios)}; {statistics.median(firsts):.2f} for the first one)"
  )
  return 0


if __name__ == "__main__":
  sys.exit(main())

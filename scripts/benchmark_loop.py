"""What a step costs beside the compiled update, and a checkpoint beside a step.

    python scripts/benchmark_loop.py
    python scripts/benchmark_loop.py --gin_file=multitask.gin \
      --gin_file=models/t5_mini.gin --gin.INIT=scratch --data_dir=DIR

Trains through the loop of `fit.py` itself, evaluation and checkpoints off; after
every block of steps it makes as many updates without the loop, from a copy of the state
and on a batch that already lies on the device. Both sides alternate, so that a noisy
machine slows them alike. Prints milliseconds a step and the ratios.
"""

import argparse
import dataclasses
import pathlib
import statistics
import sys
import tempfile
import time

import jax
import jax.numpy as jnp

from t5tune import command_line, config, fit, job
from t5tune import run as runs
from t5tune.training import interrupt, run_log

DEFAULT = [
  *("--gin_file=demo.gin", "--gin_file=models/t5_mini.gin"),
  *("--gin.VOCABULARY='demo.model'", "--gin.INPUT_LENGTH=512"),
  *("--gin.TARGET_LENGTH=128", "--gin.run.Run.packed_lengths=(512, 128)"),
]


class Done(Exception):
  """All blocks are measured."""


class Alternating:
  """An update that, after every block of steps, runs as many without the loop."""

  def __init__(self, update, block: int, blocks: int):
    self._update, self._block, self._blocks = update, block, blocks
    self._calls, self._began = 0, 0.0
    self.in_loop, self.alone = [], []

  def __call__(self, state, batch, key):
    state, metrics = self._update(state, batch, key)
    self._calls += 1
    if self._calls % self._block == 0:
      jax.block_until_ready(state)
      if self._calls > self._block:  # the first compiled
        self.in_loop.append((time.perf_counter() - self._began) / self._block)
        self.alone.append(self._bare(state, batch, key))
      if len(self.alone) == self._blocks:
        raise Done
      self._began = time.perf_counter()
    return state, metrics

  def _bare(self, state, batch, key) -> float:
    state = jax.block_until_ready(jax.tree.map(jnp.copy, state))
    before = time.perf_counter()
    flying = []
    for _ in range(self._block):
      state, metrics = self._update(state, batch, key)
      flying.append(metrics["loss"])
      jax.block_until_ready(flying[-2:-1])
    jax.block_until_ready(state)
    return (time.perf_counter() - before) / self._block


def main() -> None:
  parser = command_line.parser(
    "train", __doc__.splitlines()[0], ["python scripts/benchmark_loop.py"]
  )
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  parser.add_argument("--block", type=int, default=5, help="steps of a block")
  parser.add_argument("--blocks", type=int, default=40, help="blocks of either side")
  arguments = sys.argv[1:]
  if not any(a.startswith("--gin_file") for a in arguments):
    arguments = [*DEFAULT, *arguments]
  flags = parser.parse_args(arguments)
  settings = config.load(flags.gin_file, flags.overrides).build(runs.Run)
  settings = dataclasses.replace(
    settings, train_steps=10**6, train_epochs=None, eval_steps=0, eval_before=False
  )
  settings = dataclasses.replace(settings, checkpoint_steps=10**6)
  with tempfile.TemporaryDirectory() as folder:
    made = job.put_together(settings, flags.data_dir, flags.store_dir, None)
    update = Alternating(made.step.update, flags.block, flags.blocks)
    made = dataclasses.replace(made, step=dataclasses.replace(made.step, update=update))
    with jax.set_mesh(made.mesh), interrupt.Interrupt() as stop:
      try:
        fit.Fit(run_log.console(), made, None, pathlib.Path(folder), stop).to_the_end()
      except Done:
        pass
  loop, alone = (statistics.median(x) for x in (update.in_loop, update.alone))
  ratios = [a / b for a, b in zip(update.in_loop, update.alone, strict=True)]
  print(f"a step in the loop   {loop * 1e3:8.2f} ms")
  print(f"the update alone     {alone * 1e3:8.2f} ms")
  error = statistics.stdev(ratios) / len(ratios) ** 0.5
  print(
    f"the loop takes {statistics.median(ratios):.4f} times the update alone (median of"
    f" {len(ratios)} blocks; mean {statistics.mean(ratios):.4f} ± {error:.4f})"
  )


if __name__ == "__main__":
  main()

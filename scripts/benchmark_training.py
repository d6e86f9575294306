#!/usr/bin/env python
"""Measures training on this machine, on random tokens: no data, no weights.

    python scripts/benchmark_training.py --memory
    python scripts/benchmark_training.py --memory --gin_file=models/flan_t5_small.gin

--memory: the most resident memory of a process that makes the state and takes three
steps (batch 4, 256 + 64 tokens, float32, Adafactor, one device), for each way to
rematerialise; each in a process of its own, one or two minutes for FLAN-T5 base.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

BATCH_SIZE, LENGTHS, STEPS = 4, (256, 64), 3
SETTINGS = {
  "INIT": "'scratch'",
  "BATCH_SIZE": str(BATCH_SIZE),
  "INPUT_LENGTH": str(LENGTHS[0]),
  "TARGET_LENGTH": str(LENGTHS[1]),
  "PACK": "False",
  "DTYPE": "'float32'",
}


def memory(gin_files: list[str], remat: str) -> dict[str, Any]:
  """Trains a few steps; returns peak resident GiB, the plan's GiB and seconds a step."""
  import jax
  import numpy as np

  from t5tune import config, partitioning, run
  from t5tune.planning import memory, programs
  from t5tune.training import train_state

  overrides = [*SETTINGS.items(), ("t5.T5Config.remat", repr(remat))]
  settings = config.load(["dialogsum.gin", *gin_files], overrides).build(run.Run)
  mesh = partitioning.make_mesh({}, jax.devices()[:1])
  step = programs.training_step(settings, mesh, LENGTHS, 1000, 1000)
  rng = np.random.default_rng(0)

  def draw(name, x):
    high = 30_000 if "tokens" in name else 2
    return jax.device_put(rng.integers(1, high, x.shape).astype(x.dtype), x.sharding)

  batch = {name: draw(name, x) for name, x in step.batch.items()}
  with jax.set_mesh(mesh):
    update = step.compile()  # once, as in a training
    planned = memory.of_compiled(update, step.state, None).peak
    state = train_state.create(step.model, step.optimizer, mesh, 0)
    for _ in range(STEPS):
      began = time.perf_counter()
      state, _ = update(state, batch, jax.random.key(0))
      jax.block_until_ready(state)
      seconds = time.perf_counter() - began
  return {
    "resident": _status("VmHWM") / 2**20,
    "planned": planned / 2**30,
    "seconds": seconds,
    "parameters": step.model.num_params(),
  }


def _status(name: str) -> int:
  """Returns a number of kibibytes from the kernel's account of this process."""
  with open("/proc/self/status") as lines:
    return int(next(x for x in lines if x.startswith(f"{name}:")).split()[1])


def apart(measure: str, *arguments: Any) -> dict[str, Any]:
  """Runs a measure in a process of its own; returns what it returns."""
  command = [sys.executable, __file__, "--child", measure, json.dumps(arguments)]
  environment = os.environ | {"JAX_PLATFORMS": "cpu"}
  done = subprocess.run(
    command, check=True, stdout=subprocess.PIPE, text=True, env=environment
  )
  return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--memory", action="store_true", help="peak memory on the CPU")
  parser.add_argument("--gin_file", action="append", default=[], help="another model")
  parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
  flags = parser.parse_args()
  if flags.child:
    measure, arguments = flags.child
    print(json.dumps({"memory": memory}[measure](*json.loads(arguments))))
    return
  if not flags.memory:
    parser.error("say what to measure: --memory")
  for remat in ("none", "dots", "full"):
    found = apart("memory", flags.gin_file, remat)
    print(
      f"{found['parameters']:,} parameters, remat {remat}: {found['resident']:.2f} GiB"
      f" at the peak (the plan says {found['planned']:.2f}),"
      f" {found['seconds']:.1f} s a step",
      flush=True,
    )


if __name__ == "__main__":
  main()

#!/usr/bin/env python
"""Measures time and peak memory of conversions between the formats of weights.

    python scripts/benchmark_convert.py --folder=DIR [--size=base]

Writes random weights of a FLAN-T5's shape (990 MB for base) and converts them on every
road, each in a process of its own. Peak memory is what the system reports of that
process (`ru_maxrss`): file pages that it has mapped count, too.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np

from t5tune import config, run
from t5tune.models import t5
from t5tune.weights import hf_export, names, weights

# Each step reads what an earlier one wrote.
ROADS = (
  ("hf", "t5tune"),
  ("t5tune", "hf_again"),
  ("hf", "t5x"),
  ("t5x", "hf_from_t5x"),
  ("t5x", "t5tune_from_t5x"),
  ("t5tune", "t5x_again"),
)


def write_random(folder: pathlib.Path, size: str) -> int:
  """Writes a Hugging Face checkpoint of random weights; returns its bytes."""
  recipe = ["dialogsum.gin", f"models/flan_t5_{size}.gin"]
  model = config.load(recipe).build(run.Run).model
  model = t5.pad_vocab_size(model, 32_100)
  shapes = names.shapes(model)

  def read(name: str) -> np.ndarray:
    rng = np.random.default_rng(abs(hash(name)))
    return 0.05 * rng.standard_normal(shapes[name], np.float32)

  folder.mkdir(parents=True)
  source = weights.Weights("random", model, shapes, read)
  hf_export.write(source, folder, "float32", 10**12, lambda done, total: None)
  return (folder / "model.safetensors").stat().st_size


def convert(source: pathlib.Path, destination: pathlib.Path, to: str) -> None:
  """Converts in a process of its own and prints what it took."""
  command = [sys.executable, "-m", "t5tune.convert", str(source), str(destination)]
  began = time.monotonic()
  child = subprocess.Popen([*command, "--to", to], stdout=subprocess.DEVNULL)
  _, status, usage = os.wait4(child.pid, 0)
  seconds = time.monotonic() - began
  if status:
    raise SystemExit(f"{' '.join(command)} failed")
  peak = usage.ru_maxrss / 2**20  # KiB on Linux
  print(f"{source.name} -> {destination.name}: {seconds:.0f} s, peak {peak:.2f} GiB")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--folder", type=pathlib.Path, required=True)
  parser.add_argument("--size", default="base", choices=("small", "base", "large"))
  flags = parser.parse_args()
  if flags.folder.exists():
    raise SystemExit(f"{flags.folder} is there already; name a new directory.")
  try:
    written = write_random(flags.folder / "hf", flags.size)
    print(f"{flags.size}: model.safetensors of {written / 1e6:,.0f} MB")
    for source, destination in ROADS:
      to = destination.split("_")[0]
      convert(flags.folder / source, flags.folder / destination, to)
  finally:
    shutil.rmtree(flags.folder, ignore_errors=True)


if __name__ == "__main__":
  main()

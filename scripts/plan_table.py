#!/usr/bin/env python
"""Prints the table of docs/plan.md: FLAN-T5 of all sizes on slices of TPUs.

    python scripts/plan_table.py
    python scripts/plan_table.py --model=xxl --topology=v6e-64

Compiles the training step for each (two to ten minutes a row on two cores) and, where
it does not fit, climbs the ladder of `t5tune.plan` until it does.
"""

import argparse

from t5tune import command_line, config, errors, run
from t5tune.planning import chips, devices, estimate, ladder

MODELS = ("base", "large", "xl", "xxl")
TOPOLOGIES = tuple(f"{chip}-{n}" for chip in ("v5e", "v6e") for n in (8, 64, 256))
ROWS, LENGTHS = 4, (1024, 256)  # of a chip; of a packed row
# How one would begin: the larger the model, the less of it on a chip.
MESHES = {"base": {"data": -1}, "large": {"data": -1}}
SPREAD = {"data": 1, "fsdp": -1}


def row(model: str, name: str) -> str:
  """Returns the row of the table for a model on a machine."""
  topology = chips.parse(name)
  found, real = devices.of(topology)
  if not real:
    raise errors.UserError("libtpu is missing: pip install 't5tune[tpu]'.")
  overrides = {
    "INIT": "'scratch'",
    "BATCH_SIZE": str(ROWS * topology.count),
    "MESH": repr(MESHES.get(model, SPREAD)),
    "run.Run.packed_lengths": repr(LENGTHS),
    "t5.T5Config.remat": "'none'" if model == "base" else "'full'",
  }
  files = ["dialogsum.gin", f"models/flan_t5_{model}.gin"]
  settings = config.load(files, list(overrides.items())).build(run.Run)
  planned = estimate.of_run(estimate.prepare(settings, topology), topology, found)
  if not planned.memory.fits:
    climbed = ladder.climb(planned, found, lambda rung, result: None)
    planned = climbed[1] if climbed else planned
  return _cells(model, planned)


def _cells(model: str, planned: estimate.Estimate) -> str:
  needed, layout = planned.memory, planned.run.model
  mesh = "×".join(f"{k} {n}" for k, n in planned.mesh.items() if n > 1)
  settings = f"{mesh}, remat {layout.remat}, microbatches {planned.run.microbatches}"
  if layout.lora:
    settings += f", LoRA {layout.lora.rank}"
  gib = [needed.params, needed.opt_state, needed.working, needed.peak]
  cells = [f"FLAN-T5 {model}", planned.topology.name, settings]
  if needed.fits:
    cells += [f"{n / 2**30:.2f}" for n in gib]
    cells += [f"{planned.flops / planned.topology.count / 1e12:.1f}"]
    cells += [f"{sum(c.sent for c in planned.collectives) / 2**30:.2f}"]
    cells += [f"{1e3 * planned.least_seconds:.0f} to {1e3 * planned.most_seconds:.0f}"]
  else:
    cells += ["does not fit", *[""] * 6]
  return f"| {' | '.join(cells)} |"


def main() -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--model", action="append", choices=MODELS)
  parser.add_argument("--topology", action="append")
  flags = parser.parse_args()
  heads = ["model", "slice", "settings", "parameters", "optimiser", "working", "peak"]
  heads += ["TFLOP", "sent", "ms a step"]
  print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
  for model in flags.model or MODELS:
    for name in flags.topology or TOPOLOGIES:
      print(row(model, name), flush=True)
  return 0


if __name__ == "__main__":
  command_line.main(lambda _: main())

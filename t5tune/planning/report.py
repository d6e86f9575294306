"""What `plan` prints of an estimate."""

import importlib.metadata
from collections.abc import Iterator

from t5tune.planning import chips, estimate, ladder
from t5tune.planning.memory import amount


def head(topology: chips.Topology, real: bool) -> list[str]:
  """Returns what the plan is for, and how much it is worth.

  Args:
    topology: the machine.
    real: whether its own compiler is at hand.
  """
  chip = topology.chip
  name = topology.layout if topology.shape else topology.name
  first = f"Planned for {name}, {topology.count} device(s)."
  if chip.kind == "cpu":
    return [first]
  if real:
    version = importlib.metadata.version("libtpu")
    return [f"{first} Compiled for it by libtpu {version}."]
  why = "" if chip.kind == "gpu" else " libtpu would compile for it: see t5tune[tpu]."
  return [
    f"{first} An ESTIMATE, compiled for virtual CPU devices: that machine's compiler"
    f" fuses more and stores bfloat16 in half the bytes.{why}"
  ]


def lines(planned: estimate.Estimate) -> list[str]:
  """Returns what to tell a user of a plan."""
  return [*_settings(planned), "", *_memory(planned), "", *_cost(planned)]


def _settings(planned: estimate.Estimate) -> Iterator[str]:
  run, mesh = planned.run, planned.mesh
  model = run.model
  size = f"{planned.num_params:,} parameters"
  trained = f", LoRA of rank {model.lora.rank}" if model.lora else ""
  yield f"Model: {size}, {model.dtype}, remat {model.remat!r}{trained}. Mesh: {mesh}."
  shards = mesh["data"] * mesh["fsdp"]
  at_once = run.batch_size // shards // run.microbatches
  inputs, targets = planned.row_lengths
  yield (
    f"Batch: {run.batch_size} rows of {inputs} + {targets} tokens; a device has"
    f" {at_once} of them at a time."
  )
  if assumed := estimate.row_lengths(run)[1]:
    yield assumed


def _memory(planned: estimate.Estimate) -> Iterator[str]:
  needed = planned.memory
  yield "Bytes of a device"
  yield f"  parameters                 {amount(needed.params):>12}"
  yield f"  optimiser                  {amount(needed.opt_state):>12}"
  if needed.working is not None:
    yield f"  activations and gradients  {amount(needed.working):>12}"
  of = f" of {amount(needed.available)}"
  if needed.fits:
    share = needed.peak / needed.available
    yield f"  peak of a step             {amount(needed.peak):>12}{of}: {share:.0%}. Fits."
  else:
    least = "at least " if needed.too_large else ""
    yield (
      f"  peak of a step             {least}{amount(needed.peak):>12}{of}. DOES NOT FIT."
    )


def _cost(planned: estimate.Estimate) -> Iterator[str]:
  each = planned.flops / planned.topology.count
  yield (
    f"Matrix products of a step: {planned.flops / 1e12:,.2f} TFLOP"
    f" ({each / 1e12:,.2f} a device)."
  )
  if planned.hbm_bytes is None:
    return
  yield "Collectives of a device and step"
  for c in planned.collectives:
    yield f"  {c.kind:<20} {c.calls:>7.0f} x over {c.devices:<4} {amount(c.sent):>12} sent"
  if not planned.collectives:
    yield "  none"
  if not planned.seconds:
    return
  chip = planned.topology.chip
  yield f"Time of a step at the peaks stated for {chip.name} ({chip.source})"
  peaks = {
    "matrix products": f"{chip.flops / 1e12:,.0f} TFLOP/s in bfloat16",
    "memory": f"{amount(planned.hbm_bytes)} at {chip.hbm_bandwidth / 1e9:,.0f} GB/s",
    "links": f"{planned.topology.link_bandwidth / 1e9:,.0f} GB/s one way",
  }
  for name, seconds in planned.seconds.items():
    yield f"  {name:<20} {1e3 * seconds:>9,.1f} ms   {peaks[name]}"
  least, most = planned.least_seconds, planned.most_seconds
  yield (
    f"  a step               {1e3 * least:,.1f} ms where all this overlaps, to"
    f" {1e3 * most:,.1f} ms where nothing does. Chips do not reach their peaks; nothing"
    " is faster."
  )


def rung(tried: ladder.Rung, result: estimate.Estimate | int) -> str:
  """Returns one line about settings that were tried.

  Args:
    tried: the settings.
    result: their estimate, or the bytes of a device for their state alone where these
      are too many.
  """
  flags = " ".join(tried.flags) or "as it is"
  if isinstance(result, int):
    return (
      f"  no   {amount(result):>12} for parameters, optimiser and gradients: {flags}"
    )
  verdict = "FITS" if result.memory.fits else "no  "
  return f"  {verdict} {amount(result.memory.peak):>12} {flags}"

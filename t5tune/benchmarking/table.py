"""What was measured, as a table and as JSON."""

import statistics
from collections.abc import Sequence
from typing import Any

import jax
from rich.table import Table

from t5tune.benchmarking.measures import Measure
from t5tune.planning.memory import amount


def records(
  measures: Sequence[Measure], seconds: Sequence[Sequence[float]], devices: int
) -> list[dict[str, Any]]:
  """Returns what was measured, in numbers.

  Args:
    measures: what was run.
    seconds: how long each took, by round.
    devices: how many the mesh has.

  Returns:
    A record for each measure: its name, kind and cost; `seconds`, by round, and their
    `median`; what is made of them a second; and `mfu`, the share of the fastest matrix
    products' rate, of all devices, which its own matrix products reach.
  """
  made = []
  for measure, taken in zip(measures, seconds, strict=True):
    cost, median = vars(measure.cost), statistics.median(taken)
    rates = {
      f"{name}_per_second": value / median
      for name, value in cost.items()
      if value and name != "memory"
    }
    record = {"name": measure.name, "kind": measure.kind, **cost, **rates}
    made.append({**record, "seconds": list(taken), "median": median})
  peak = max(
    (r["flops_per_second"] for r in made if r["kind"] == "matmul"), default=None
  )
  for record in made:
    if peak and record["flops"] and record["kind"] != "matmul":
      record["mfu"] = record["flops_per_second"] / peak / devices
  return made


def machine() -> dict[str, Any]:
  """Returns what was measured on."""
  first = jax.devices()[0]
  return {
    "device": first.device_kind,
    "platform": first.platform,
    "devices": jax.device_count(),
    "jax": jax.__version__,
  }


def table(made: Sequence[dict[str, Any]]) -> Table:
  """Returns a table of records."""
  shown = Table()
  for title in ("", "median s", "from", "to"):
    shown.add_column(title, justify="right" if title else "left")
  for title in ("input tokens/s", "target tokens/s", "GFLOP/s", "MFU", ""):
    shown.add_column(title, justify="right" if title else "left")
  for r in made:
    rate = r.get("flops_per_second")
    shown.add_row(
      r["name"],
      *(f"{x:.3f}" for x in (r["median"], min(r["seconds"]), max(r["seconds"]))),
      *(_count(r.get(f"{side}_tokens_per_second")) for side in ("input", "target")),
      f"{rate / 1e9:,.0f}" if rate else "",
      f"{r['mfu']:.0%}" if "mfu" in r else "",
      _rest(r),
    )
  return shown


def _count(value: float | None) -> str:
  return f"{value:,.0f}" if value else ""


def _rest(r: dict[str, Any]) -> str:
  if r["memory"]:
    xla = f", {r['xla_flops'] / 1e9:,.0f} GFLOP by XLA" if r["xla_flops"] else ""
    return f"{r['flops'] / 1e9:,.0f} GFLOP{xla}; {amount(r['memory'])} at the peak"
  if r["read_bytes"]:
    return f"{amount(r['read_bytes'])}, {amount(r['read_bytes_per_second'])}/s"
  return ""

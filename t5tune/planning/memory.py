"""Memory: what a training step needs on each device, asked before it is run."""

import dataclasses
import os
import re
from typing import Any

import jax
import numpy as np

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# What XLA says of a program that is larger than its device.
_TOO_LARGE = (
  r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm",
  r"\(([\d.]+)([KMGT]?)\) exceeds available HBM",
)


@dataclasses.dataclass(frozen=True)
class StepMemory:
  """Bytes of one device.

  Attributes:
    params: the parameters.
    opt_state: the optimiser's state, and the parameters' average.
    working: activations, gradients and all else that lives during a step; None where
      the program is too large for the compiler to say.
    peak: the most that is held at a time; of a program that is too large at least
      this much, as far as it is known.
    available: what the device has for programs, or None where it does not tell; of a
      CPU, the machine's memory, which all its devices share.
    too_large: whether the compiler refused.
  """

  params: int
  opt_state: int
  working: int | None
  peak: int
  available: float | None
  too_large: bool = False

  @property
  def fits(self) -> bool:
    """Whether the device has room, as far as is known."""
    return not self.too_large and not (self.available and self.peak > self.available)

  def lines(self) -> list[str]:
    """Returns what to tell a user."""
    parts = {
      "parameters": self.params,
      "optimiser": self.opt_state,
      "activations and gradients": self.working,
    }
    shown = [f"{k} {amount(v)}" for k, v in parts.items() if v is not None]
    least = "at least " if self.too_large else ""
    first = f"Memory of a device: {least}{amount(self.peak)} at the peak of a step"
    lines = [f"{first} ({', '.join(shown)})"]
    if self.available is None:
      lines.append("This device does not tell how much it has.")
    elif self.fits:
      share = self.peak / self.available
      lines.append(f"It has {amount(self.available)}: {share:.0%} would be used.")
    else:
      lines.append(f"It has {amount(self.available)}: this run does not fit.")
    return lines


# What `train --dry_run` adds where a run does not fit; `plan` tries it out.
ADVICE = (
  "Raise run.Run.microbatches, set t5.T5Config.remat = 'dots' or 'full', spread the"
  " model with MESH = {'data': 1, 'fsdp': -1, 'tensor': 1}, or train LORA_RANK = 16"
  " alone. python -m t5tune.plan tries these out."
)


def amount(count: float) -> str:
  """Returns a number of bytes in words."""
  if count >= 2**30:
    return f"{count / 2**30:.2f} GiB"
  return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB"


def of_step(step: Any, available: float | None = None) -> StepMemory:
  """Compiles a training step, without running it, and asks what memory it takes.

  Args:
    step: the step, a `programs.Step`.
    available: bytes that a device has; None to ask this machine's.
  """
  available = available or this_device()
  try:
    compiled = step.compile()
  except jax.errors.JaxRuntimeError as error:
    return of_refused(error, step.state, available)
  return of_compiled(compiled, step.state, available)


def of_compiled(compiled: Any, state: Any, available: float | None) -> StepMemory:
  """Returns the memory of a compiled training step.

  Args:
    compiled: the step, `jax.stages.Compiled`.
    state: its abstract state.
    available: bytes that a device has, or None.
  """
  analysis = compiled.memory_analysis()
  held = analysis.argument_size_in_bytes
  made = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
  working = analysis.temp_size_in_bytes
  code = analysis.generated_code_size_in_bytes
  return StepMemory(
    params=device_bytes(state.params),
    opt_state=device_bytes((state.opt_state, state.average)),
    working=working,
    peak=held + made + working + code,
    available=available,
  )


def of_refused(error: Exception, state: Any, available: float | None) -> StepMemory:
  """Returns the memory of a step that the compiler finds too large for its device.

  Args:
    error: what it raised.
    state: the step's abstract state.
    available: bytes that a device has, or None.

  Raises:
    Exception: `error`, if it is about something else.
  """
  text = str(error)
  if "RESOURCE_EXHAUSTED" not in text:
    raise error
  found = next((f for f in (re.search(p, text) for p in _TOO_LARGE) if f), None)
  params, opt_state = (
    device_bytes(state.params),
    device_bytes((state.opt_state, state.average)),
  )
  stated = float(found[1]) * _UNITS[found[2]] if found else 0
  return StepMemory(
    *(params, opt_state, None),
    peak=int(max(stated, params + opt_state)),
    available=available,
    too_large=True,
  )


def device_bytes(tree: Any) -> int:
  """Returns the bytes of abstract arrays that one device holds."""
  return sum(
    int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize
    for x in jax.tree.leaves(tree)
  )


def this_device() -> float | None:
  """Returns the bytes that this machine's first device has, or None."""
  device = jax.local_devices()[0]
  if device.platform == "cpu":
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  return (device.memory_stats() or {}).get("bytes_limit")

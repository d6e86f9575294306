"""Accelerators that a run can be planned for, and how their machines are named.

Stands beside the direction of data: nothing of a run is needed here.
"""

import dataclasses
import math
import os
import re
from typing import Literal

from t5tune import errors


@dataclasses.dataclass(frozen=True)
class Chip:
  """What a maker states of an accelerator, or what was read from its compiler.

  Attributes:
    name: what a user calls it.
    kind: 'tpu', 'gpu' or 'cpu'.
    hbm: bytes that a program may use; None for a CPU, whose machine is asked.
    flops: bfloat16 matrix operations a second, dense; None where none are stated.
    hbm_bandwidth: bytes a second.
    link_bandwidth: bytes a second that leave a chip for the others, one way, over all
      its links; of GPUs, within a host.
    network_bandwidth: the same between hosts; None where one network joins all.
    per_host: chips of a host, where the network depends on it.
    source: where the numbers stand.
  """

  name: str
  kind: Literal["tpu", "gpu", "cpu"]
  hbm: float | None
  flops: float | None = None
  hbm_bandwidth: float | None = None
  link_bandwidth: float | None = None
  network_bandwidth: float | None = None
  per_host: int = 8
  source: str = ""


_GIB, _GB = 2**30, 1e9
_CLOUD = "cloud.google.com/tpu/docs"
_NVIDIA = "nvidia.com/en-us/data-center"
# A TPU's memory is what libtpu 0.0.42 lets a program have; a GPU's is 90 % of what is
# built in, the share that jax takes (`accelerators.py`). Google states links in both
# directions or in one: here is half of what is stated for both.
CHIPS = {
  chip.name: chip
  for chip in (
    Chip(
      *("v5e", "tpu", 15.75 * _GIB, 197e12, 819 * _GB, 200 * _GB),
      source=f"{_CLOUD}/v5e",
    ),
    Chip(
      *("v6e", "tpu", 31.25 * _GIB, 918e12, 1638 * _GB, 400 * _GB),
      source=f"{_CLOUD}/v6e",
    ),
    Chip(
      *("v5p", "tpu", 95.74 * _GIB, 459e12, 2765 * _GB, 600 * _GB),
      source=f"{_CLOUD}/v5p",
    ),
    Chip(
      *("a100", "gpu", 0.9 * 80 * _GB, 312e12, 2039 * _GB, 300 * _GB, 25 * _GB),
      source=f"{_NVIDIA}/a100 (80 GB, SXM)",
    ),
    Chip(
      *("h100", "gpu", 0.9 * 80 * _GB, 989e12, 3350 * _GB, 450 * _GB, 50 * _GB),
      source=f"{_NVIDIA}/h100 (SXM)",
    ),
    Chip(
      *("h200", "gpu", 0.9 * 141 * _GB, 989e12, 4800 * _GB, 450 * _GB, 50 * _GB),
      source=f"{_NVIDIA}/h200 (SXM)",
    ),
    Chip(
      *("l4", "gpu", 0.9 * 24 * _GB, 121e12, 300 * _GB, 32 * _GB, 12.5 * _GB),
      source=f"{_NVIDIA}/l4",
    ),
    Chip("cpu", "cpu", None),
  )
}
_MOST_DEVICES = 4096
_FORMS = "v5e:4x4, v6e-64, v5p-8 (8 cores, 4 chips), h100:8 or cpu"


@dataclasses.dataclass(frozen=True)
class Topology:
  """A machine.

  Attributes:
    name: as the user wrote it.
    chip: what it is made of.
    count: number of devices.
    shape: of a TPU slice, chips along each axis of its network.
  """

  name: str
  chip: Chip
  count: int
  shape: tuple[int, ...] = ()

  @property
  def layout(self) -> str:
    """The slice's name as libtpu has it, such as 'v5e:4x4'."""
    return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

  @property
  def link_bandwidth(self) -> float | None:
    """Bytes a second that a device can send to the others, one way."""
    if self.chip.network_bandwidth and self.count > self.chip.per_host:
      return self.chip.network_bandwidth
    return self.chip.link_bandwidth

  def memory(self) -> float:
    """Returns the bytes that each device has for a program."""
    if self.chip.hbm is not None:
      return self.chip.hbm
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / self.count


def parse(text: str) -> Topology:
  """Reads the name of a machine.

  Args:
    text: a chip and, after ':' or '-', how many: the shape of a TPU slice ('v5e:4x4')
      or a number. As Google Cloud counts, 'v5p-8' has 8 cores, which are 4 chips.

  Raises:
    UserError: there is no such chip, or no slice of that size.
  """
  topology = _parse(text)
  if topology.count > _MOST_DEVICES:
    raise errors.UserError(
      f"--topology={text}: {topology.count:,} devices; at most {_MOST_DEVICES:,} can be"
      f" planned for. Write {_FORMS}."
    )
  return topology


def _parse(text: str) -> Topology:
  name, separator, size = re.fullmatch(r"([^:-]*)([:-]?)(.*)", text).groups()
  if name == "v5litepod":
    name = "v5e"
  if name not in CHIPS:
    raise errors.UserError(
      f"--topology={text}: no chip {name!r} is known.{errors.did_you_mean(name, CHIPS)}"
      f" There is: {', '.join(CHIPS)}. Write {_FORMS}."
    )
  chip = CHIPS[name]
  if not separator and chip.kind != "tpu":
    return Topology(text, chip, 1)
  if re.fullmatch(r"\d+(x\d+)+", size) and chip.kind == "tpu":
    shape = tuple(map(int, size.split("x")))
    shape += (1,) * (_axes(chip) - len(shape))
    wrong = len(shape) > _axes(chip) or min(shape) < 1
  elif re.fullmatch(r"[1-9]\d*", size):
    if chip.kind != "tpu":
      return Topology(text, chip, int(size))
    cores = 2 if chip.name == "v5p" and separator == "-" else 1
    shape = _slice(int(size) // cores, _axes(chip))
    wrong = int(size) % cores or not shape
  else:
    wrong, shape = True, ()
  if wrong:
    raise errors.UserError(
      f"--topology={text}: {size!r} is no size of a {name} machine. Write {_FORMS}; the"
      " slices of a TPU have 1, 4, 8, 16, 32, ... chips."
    )
  return Topology(text, chip, math.prod(shape), shape)


def _axes(chip: Chip) -> int:
  return 3 if chip.name == "v5p" else 2


def _slice(count: int, axes: int) -> tuple[int, ...]:
  """Returns the shape of a slice, as even as can be, or () where there is none."""
  power = count.bit_length() - 1
  if count < 1 or 2**power != count or count == 2:
    return ()
  if count < 2**axes:
    return (2, 2, 1)[:axes] if count == 4 else (1,) * axes
  return tuple(2 ** ((power + i) // axes) for i in range(axes))

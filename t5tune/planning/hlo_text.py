"""Reads the text of a compiled program: its computations, and how often each runs."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

_ARRAY = re.compile(r"([a-z]+\d*\w*)\[([\d,]*)\](?:\{([^{}]*)\})?")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*)$")
_CALLED = re.compile(
  r"\b(body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.-]+)"
)
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\s*\{"n":\s*"(\d+)"')
_SPACE = re.compile(r"S\((\d+)\)")


@dataclasses.dataclass(frozen=True)
class Array:
  """An array of a program.

  Attributes:
    bytes: its size, without padding.
    in_hbm: whether it lies in the device's main memory; a TPU's program keeps some
      in the core (`S(1)` in its layout).
  """

  bytes: float
  in_hbm: bool


@dataclasses.dataclass(frozen=True)
class Instruction:
  """An instruction: `name = outputs opcode(operands), attributes`."""

  name: str
  opcode: str
  outputs: tuple[Array, ...]
  operands: tuple[str, ...]
  attributes: str
  is_root: bool
  literal: str

  @property
  def bytes(self) -> float:
    """Bytes of all its outputs."""
    return sum(x.bytes for x in self.outputs)


@dataclasses.dataclass(frozen=True)
class Computation:
  """A computation, and how it is reached.

  Attributes:
    instructions: in the order they run.
    runs: how often it runs in one run of the program.
    fused: whether it is the inside of one kernel.
  """

  instructions: Mapping[str, Instruction]
  runs: float
  fused: bool


def computations(text: str) -> dict[str, Computation]:
  """Returns the computations that a program runs, by name.

  Args:
    text: `jax.stages.Compiled.as_text()`, the program of one device.
  """
  entry, parsed = _parse(text)
  runs: dict[str, float] = {}
  fused: dict[str, bool] = {}
  queue = [(entry, 1.0, False)]
  while queue:
    name, times, inside = queue.pop()
    runs[name] = runs.get(name, 0.0) + times
    fused[name] = inside
    for instruction in parsed[name].values():
      queue += _called(instruction, parsed, times, inside)
  return {n: Computation(parsed[n], runs[n], fused[n]) for n in runs}


def _parse(text: str) -> tuple[str, dict[str, dict[str, Instruction]]]:
  entry, parsed, current = "", {}, {}
  for line in text.splitlines():
    if head := _HEAD.match(line):
      current = parsed.setdefault(head[2], {})
      entry = head[2] if head[1] else entry
    elif found := _INSTRUCTION.match(line):
      instruction = _instruction(found[1], found[2], "ROOT " in line[: found.start(2)])
      current[instruction.name] = instruction
  return entry, parsed


def _instruction(name: str, rest: str, is_root: bool) -> Instruction:
  end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
  shape, rest = rest[:end], rest[end:].lstrip()
  opcode, _, rest = rest.partition("(")
  close = _closing("(" + rest, 0) - 1
  inside = rest[:close]
  return Instruction(
    name=name,
    opcode=opcode,
    outputs=tuple(_arrays(shape)),
    operands=tuple(re.findall(r"%([\w.-]+)", inside)),
    attributes=rest[close + 1 :],
    is_root=is_root,
    literal=inside if opcode in ("constant", "parameter") else "",
  )


def _closing(text: str, start: int) -> int:
  """Returns where the parenthesis that opens at `start` closes."""
  depth = 0
  for found in re.compile(r"[()]").finditer(text, start):
    depth += 1 if found[0] == "(" else -1
    if depth == 0:
      return found.start()
  return len(text)


def _arrays(shape: str) -> Iterator[Array]:
  for dtype, sizes, layout in _ARRAY.findall(shape):
    count = math.prod(int(n) for n in sizes.split(",") if n)
    space = _SPACE.search(layout)
    yield Array(count * _width(dtype), space is None or space[1] == "0")


def _width(dtype: str) -> float:
  """Returns the bytes of an element; 0 for tokens and the like."""
  if dtype == "pred":
    return 1
  if dtype.startswith("c"):
    return int(dtype[1:]) / 8
  if found := re.match(r"[suf]\w*?(\d+)|bf(16)", dtype):
    return int(found[1] or found[2]) / 8
  return 0


def _called(instruction, parsed, times: float, inside: bool):
  """Yields what an instruction calls, with how often it then runs."""
  named = dict(_CALLED.findall(instruction.attributes))
  if instruction.opcode == "while":
    trips = _trips(instruction, parsed, named["condition"])
    yield named["body"], times * trips, inside
    return
  for called in _BRANCHES.findall(instruction.attributes):
    for name in re.findall(r"[\w.-]+", called):
      yield name, times, inside
  if instruction.opcode in ("call", "conditional", "fusion", "async-start"):
    fuses = inside or instruction.opcode == "fusion"
    for name in named.values():
      yield name, times, fuses


def _trips(instruction, parsed, condition: str) -> int:
  """Returns how often a loop runs: as stated, or by what its counter is compared with.

  A loop without a fixed end (decoding) is taken to run as long as it may.
  """
  if found := _TRIPS.search(instruction.attributes):
    return int(found[1])
  limits = [
    int(i.literal)
    for i in parsed[condition].values()
    if i.opcode == "constant" and re.fullmatch(r"\d+", i.literal)
  ]
  return max(limits, default=1)

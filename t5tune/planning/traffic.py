"""What a compiled program moves: collectives between devices, and its own memory."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping

from t5tune.planning import hlo_text

_COLLECTIVES = {
  *("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all"),
  *("collective-permute", "collective-broadcast"),
}
# These move nothing, or their bodies are counted for them.
_FREE = {
  *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while"),
  *("conditional", "call", "after-all", "opt-barrier", "partition-id", "replica-id"),
  *("domain", "add-dependency", "iota"),
}
_SLICES = ("dynamic-slice", "slice", "gather", "slice-start")


@dataclasses.dataclass(frozen=True)
class Collective:
  """All collectives of a kind that a device takes part in.

  Attributes:
    kind: such as 'all-gather'.
    devices: devices of a group.
    calls: how many in one run of the program.
    sent: bytes that each device sends, by the ring algorithms.
  """

  kind: str
  devices: int
  calls: float
  sent: float


def collectives(
  program: Mapping[str, hlo_text.Computation], devices: int
) -> list[Collective]:
  """Returns the collectives of a program, the costliest first.

  Args:
    program: from `hlo_text.computations`.
    devices: how many run it.
  """
  found: dict[tuple[str, int], tuple[float, float]] = {}
  for computation in program.values():
    for instruction in computation.instructions.values():
      kind = instruction.opcode.removesuffix("-start")
      if kind not in _COLLECTIVES:
        continue
      group = group_size(instruction.attributes, devices)
      operands = _operands(computation, instruction)
      size = sum(x.bytes for i in operands for x in i.outputs)
      calls, sent = found.get((kind, group), (0.0, 0.0))
      sent += computation.runs * _sent(kind, size, group)
      found[kind, group] = calls + computation.runs, sent
  made = [Collective(*key, *value) for key, value in found.items() if value[1]]
  return sorted(made, key=lambda c: -c.sent)


def _sent(kind: str, size: float, group: int) -> float:
  """Returns the bytes a device sends, given the bytes it brings."""
  if kind == "all-gather":
    return size * (group - 1)
  if kind in ("all-reduce", "reduce-scatter"):
    return size * (group - 1) / group * (2 if kind == "all-reduce" else 1)
  return size * (group - 1) / group if "all-to-all" in kind else size


def group_size(attributes: str, devices: int) -> int:
  """Returns how many devices a collective joins.

  Args:
    attributes: of the instruction; replica groups are written as lists
      ({{0,1},{2,3}}), as an iota ([2,2]<=[4]) or by axes of a mesh.
    devices: how many run the program, for a collective that names no groups.
  """
  if found := re.search(r"replica_groups=\[\d+,(\d+)\]<=", attributes):
    return int(found[1])
  if found := re.search(r"replica_groups=\{\{([\d,]*)\}", attributes):
    return len(found[1].split(","))
  if found := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", attributes):
    sizes = dict(re.findall(r"'([^']*)'=(\d+)", found[1]))
    parts = re.findall(r"'([^']*)'(?::\(\d+\)(\d+))?", found[2])
    return math.prod(int(part or sizes[axis]) for axis, part in parts)
  return devices


def hbm_bytes(program: Mapping[str, hlo_text.Computation]) -> float:
  """Returns the bytes that a device reads from and writes to its main memory.

  Each kernel reads its operands and writes its outputs once. Of an array of which a
  kernel only takes or replaces a slice (a layer of a stack), the slice counts.

  Args:
    program: from `hlo_text.computations`.
  """
  return sum(
    computation.runs * _instruction_bytes(program, computation, instruction)
    for computation in program.values()
    if not computation.fused
    for instruction in computation.instructions.values()
  )


def _instruction_bytes(program, computation, instruction) -> float:
  opcode = instruction.opcode
  operands = _operands(computation, instruction)
  allocates = opcode == "custom-call" and not operands
  if opcode in _FREE or opcode.endswith("-done") or allocates:
    return 0.0
  written = instruction.outputs
  if opcode.endswith("-start") and written:  # (result, operand, context)
    written = written[:1]
  if opcode in _SLICES:
    read = sum(x.bytes for x in written) if _in_hbm(operands[0].outputs) else 0.0
    return read + _in_hbm(written)
  if opcode == "dynamic-update-slice":
    return 2 * _in_hbm(operands[1].outputs)
  if opcode == "fusion":
    return _fusion_bytes(program, instruction, operands)
  return _in_hbm(written) + sum(_in_hbm(o.outputs) for o in operands)


def _fusion_bytes(program, instruction, operands) -> float:
  """Counts what a kernel takes of each operand, and what it replaces of each output."""
  inside = _inside(program, instruction)
  total = sum(
    _taken(program, inside, index)
    for index, operand in enumerate(operands)
    if _in_hbm(operand.outputs)
  )
  (root,) = (i for i in inside.values() if i.is_root)
  results = [root]
  if root.opcode == "tuple":
    results = [inside[name] for name in root.operands]
  for result, output in zip(results, instruction.outputs, strict=False):
    while result.opcode == "bitcast":
      result = inside[result.operands[0]]
    if output.in_hbm and result.opcode == "dynamic-update-slice":
      total += inside[result.operands[1]].bytes
    elif output.in_hbm:
      total += output.bytes
  return total


def _taken(program, inside: Mapping[str, hlo_text.Instruction], index: int) -> float:
  """Returns the bytes that a kernel reads of one of its parameters."""
  parameter = next(
    i for i in inside.values() if i.opcode == "parameter" and int(i.literal) == index
  )
  total, queue = 0.0, [parameter.name]
  while queue:
    name = queue.pop()
    for user in inside.values():
      for position, operand in enumerate(user.operands):
        if operand != name:
          continue
        if user.opcode == "bitcast":
          queue.append(user.name)
        elif user.opcode in _SLICES and position == 0:
          total += user.bytes
        elif user.opcode == "fusion":
          total += _taken(program, _inside(program, user), position)
        elif user.opcode != "dynamic-update-slice" or position:
          return parameter.bytes
  return min(total, parameter.bytes)


def _inside(program, fusion) -> Mapping[str, hlo_text.Instruction]:
  called = re.search(r"\bcalls=%?([\w.-]+)", fusion.attributes)
  return program[called[1]].instructions


def _operands(computation, instruction) -> list:
  known = computation.instructions
  return [known[name] for name in instruction.operands if name in known]


def _in_hbm(arrays: Iterable[hlo_text.Array]) -> float:
  return sum(x.bytes for x in arrays if x.in_hbm)

"""What a run will need on a machine: bytes, operations, traffic and time of a step."""

import dataclasses
import time
from typing import Any

import jax

from t5tune import errors, partitioning
from t5tune.data import vocabularies
from t5tune.models import t5
from t5tune.planning import chips, flops, hlo_text, memory, programs, traffic


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A training step on a machine.

  Attributes:
    run: the settings, as planned.
    topology: the machine.
    mesh: mesh axis -> devices.
    row_lengths: input and target length of a row.
    num_params: parameters of the model.
    memory: bytes of a device.
    flops: matrix operations of a step, of all devices together.
    collectives: what devices send each other, a device and a step.
    hbm_bytes: bytes that a device reads and writes in a step, or None where the
      program is too large to be compiled.
    compile_seconds: how long it took to compile.
  """

  run: Any
  topology: chips.Topology
  mesh: dict[str, int]
  row_lengths: tuple[int, int]
  num_params: int
  memory: memory.StepMemory
  flops: int
  collectives: list[traffic.Collective]
  hbm_bytes: float | None
  compile_seconds: float

  @property
  def seconds(self) -> dict[str, float]:
    """What each part of a step takes at the chip's stated peaks.

    Empty where none are stated, or the program could not be compiled.
    """
    chip = self.topology.chip
    if chip.flops is None or self.hbm_bytes is None:
      return {}
    sent = sum(c.sent for c in self.collectives)
    return {
      "matrix products": self.flops / self.topology.count / chip.flops,
      "memory": self.hbm_bytes / chip.hbm_bandwidth,
      "links": sent / self.topology.link_bandwidth,
    }

  @property
  def least_seconds(self) -> float:
    """A step in which everything overlaps."""
    return max(self.seconds.values())

  @property
  def most_seconds(self) -> float:
    """A step, still at the stated peaks, in which nothing overlaps."""
    return sum(self.seconds.values())


def prepare(run: Any, topology: chips.Topology) -> Any:
  """Returns a run's settings with what depends on the machine and the vocabulary.

  Args:
    run: the settings, a `t5tune.run.Run`.
    topology: the machine.

  Raises:
    UserError: the model's vocabulary has no size, and no file is there to tell.
  """
  model = run.model
  if model.vocab_size is None:
    size = vocabularies.Tokenizer(run.vocabulary_path()).size
    model = t5.pad_vocab_size(model, size)
  if topology.chip.kind != "cpu":
    # What these mean there, not on the CPU that plans.
    loop = "scan" if model.layer_loop == "auto" else model.layer_loop
    model = dataclasses.replace(model, layer_loop=loop, fused_attention=False)
  return run.with_model(model)


def row_lengths(run: Any) -> tuple[tuple[int, int], str]:
  """Returns the lengths of a row, and what had to be assumed, in words.

  Args:
    run: the settings.
  """
  if run.row_lengths is not None:
    return run.row_lengths, ""
  lengths = (run.input_length, run.target_length)
  share = (run.packed_tokens or 2 * sum(lengths)) / sum(lengths)
  assumed = tuple(max(int(n * share) // 8 * 8, n) for n in lengths)
  told = (
    "The data choose the lengths of packed rows; these are the longest they may choose"
    " in the proportion of INPUT_LENGTH to TARGET_LENGTH. train --dry_run shows theirs."
  )
  return assumed, told


def of_run(run: Any, topology: chips.Topology, devices: Any) -> Estimate:
  """Compiles a run's training step for a machine and reads what it needs.

  Args:
    run: the settings, from `prepare`.
    topology: the machine.
    devices: its devices, from `devices.of`.

  Raises:
    UserError: the mesh or the batch does not fit the number of devices.
  """
  mesh = partitioning.make_mesh(run.mesh, devices)
  run.check_batch(partitioning.batch_shards(mesh))
  lengths, _ = row_lengths(run)
  step = _step(run, mesh)
  traced = step.trace()
  began = time.monotonic()
  program, compiled = {}, None
  try:
    compiled = step.compile()
  except jax.errors.JaxRuntimeError as error:
    needed = memory.of_refused(error, step.state, topology.memory())
  else:
    needed = memory.of_compiled(compiled, step.state, topology.memory())
    program = hlo_text.computations(compiled.as_text())
  return Estimate(
    run=run,
    topology=topology,
    mesh=dict(mesh.shape),
    row_lengths=lengths,
    num_params=step.model.num_params(),
    memory=needed,
    flops=flops.of_jaxpr(traced.jaxpr),
    collectives=traffic.collectives(program, topology.count),
    hbm_bytes=traffic.hbm_bytes(program) if compiled else None,
    compile_seconds=time.monotonic() - began,
  )


def state_bytes(run: Any, topology: chips.Topology, devices: Any) -> int | None:
  """Returns the least that a device holds, without compiling: state and gradients.

  Args:
    run: the settings, from `prepare`.
    topology: the machine.
    devices: its devices.

  Returns:
    Bytes, or None where the settings do not go together with that many devices.
  """
  try:
    mesh = partitioning.make_mesh(run.mesh, devices)
    run.check_batch(partitioning.batch_shards(mesh))
    step = _step(run, mesh)
  except errors.UserError:
    return None
  gradients = step.optimizer.trainable(step.state.params)
  return memory.device_bytes((step.state, gradients))


def _step(run: Any, mesh: Any) -> programs.Step:
  # Where schedules end does not change the program; epochs would need the data.
  length = run.train_steps or 10_000
  return programs.training_step(run, mesh, row_lengths(run)[0], length, length)

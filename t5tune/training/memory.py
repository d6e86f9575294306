"""Memory: what a training step needs on each device, asked before it is run."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from t5tune import partitioning


@dataclasses.dataclass(frozen=True)
class StepMemory:
  """Bytes of one device.

  Attributes:
    params: the parameters.
    opt_state: the optimiser's state.
    working: activations, gradients and all else that lives during a step.
    peak: the most that is held at a time.
    available: what the device has, or None where it does not tell; of a CPU, the
      machine's memory, which all its devices share.
  """

  params: int
  opt_state: int
  working: int
  peak: int
  available: int | None

  def lines(self) -> list[str]:
    """Returns what to tell a user."""
    parts = [("parameters", self.params), ("optimiser", self.opt_state)]
    shown = [f"{name} {_amount(n)}" for name, n in [*parts, ("working", self.working)]]
    lines = [
      f"Memory of a device: {_amount(self.peak)} at the peak of a step"
      f" ({', '.join(shown)})"
    ]
    if self.available is None:
      lines.append("This device does not tell how much it has.")
    elif self.peak > self.available:
      lines.append(
        f"It has {_amount(self.available)}: this run does not fit. Lower BATCH_SIZE or"
        " raise run.Run.microbatches, set t5.T5Config.remat = 'full', or spread the"
        " model with MESH = {'data': 1, 'fsdp': -1, 'tensor': 1}."
      )
    else:
      share = self.peak / self.available
      lines.append(f"It has {_amount(self.available)}: {share:.0%} would be used.")
    return lines


def _amount(count: int) -> str:
  return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def abstract_batch(mesh: Mesh, rows: int, lengths: tuple[int, int]) -> dict[str, Any]:
  """Returns the shapes of a batch, laid out on a mesh; see `packing.to_batch`.

  Args:
    mesh: the mesh.
    rows: rows of the global batch.
    lengths: input and target length of a row.
  """
  names = {
    "encoder_input_tokens": lengths[0],
    "encoder_segment_ids": lengths[0],
    "decoder_input_tokens": lengths[1],
    "decoder_target_tokens": lengths[1],
    "decoder_segment_ids": lengths[1],
    "decoder_loss_weights": lengths[1],
  }

  def shape(name, length):
    dtype = np.float32 if name == "decoder_loss_weights" else np.int32
    sharding = partitioning.sharding(mesh, ("batch", "length"), (rows, length))
    return jax.ShapeDtypeStruct((rows, length), dtype, sharding=sharding)

  return {name: shape(name, length) for name, length in names.items()}


def of_step(update: Any, state: Any, batch: Mapping[str, Any], key: Any) -> StepMemory:
  """Compiles a training step, without running it, and asks what memory it takes.

  Args:
    update: the jitted step.
    state: its abstract state (`train_state.placed_abstract_state`).
    batch: its abstract batch (`abstract_batch`).
    key: the dropout key.
  """
  analysis = update.lower(state, batch, key).compile().memory_analysis()
  held = analysis.argument_size_in_bytes
  made = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
  working = analysis.temp_size_in_bytes
  return StepMemory(
    params=_device_bytes(state.params),
    opt_state=_device_bytes(state.opt_state),
    working=working,
    peak=held + made + working,
    available=_available(),
  )


def _device_bytes(tree: Any) -> int:
  """Returns the bytes of abstract arrays that one device holds."""
  return sum(
    int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize
    for x in jax.tree.leaves(tree)
  )


def _available() -> int | None:
  device = jax.local_devices()[0]
  if device.platform == "cpu":
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  return (device.memory_stats() or {}).get("bytes_limit")

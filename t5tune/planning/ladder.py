"""What to try when a run does not fit: one rung after the other, until one does."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from t5tune import partitioning
from t5tune.models import lora
from t5tune.planning import estimate

LORA_RANK = 16
_TENSOR = (2, 4, 8)


@dataclasses.dataclass(frozen=True)
class Rung:
  """Settings to try.

  Attributes:
    run: the settings.
    flags: what to add to the command for them.
  """

  run: Any
  flags: tuple[str, ...]


def meshes(run: Any, count: int) -> Iterator[Rung]:
  """Yields how a model can be spread: as it is, over `fsdp`, over `tensor`, with LoRA.

  Args:
    run: the settings.
    count: number of devices.
  """
  yield Rung(run, ())
  sizes = {"data": 1, "fsdp": -1, "tensor": 1}
  shapes = [sizes | {"tensor": n} for n in (1, *_TENSOR)]
  shapes = [s for s in shapes if count > 1 and count % s["tensor"] == 0]
  spread = [_with_mesh(run, shape) for shape in shapes]
  yield from spread
  # Not the same training: fewer parameters learn. So after all that keeps it.
  if run.model.lora is None:
    for rung in (Rung(run, ()), *spread):
      factors = lora.LoraConfig(rank=LORA_RANK)
      model = dataclasses.replace(rung.run.model, lora=factors)
      yield Rung(
        rung.run.with_model(model), (*rung.flags, f"--gin.LORA_RANK={LORA_RANK}")
      )


def activations(rung: Rung, shards: int) -> Iterator[Rung]:
  """Yields how activations can be made smaller: microbatches, then rematerialisation.

  Args:
    rung: how the model is spread.
    shards: into how many parts the mesh splits a batch.
  """
  rows = rung.run.batch_size // shards
  for count in (2 * rung.run.microbatches, rows):
    if rung.run.microbatches < count <= rows and rows % count == 0:
      run = dataclasses.replace(rung.run, microbatches=count)
      rung = Rung(run, (*rung.flags, f"--gin.run.Run.microbatches={count}"))
      yield rung
  if rung.run.model.remat != "none":
    return
  for remat in ("dots", "full"):
    model = dataclasses.replace(rung.run.model, remat=remat)
    flag = f"--gin.t5.T5Config.remat='{remat}'"
    yield Rung(rung.run.with_model(model), (*rung.flags, flag))


def climb(
  first: estimate.Estimate, devices: Any, tell: Callable[[Rung, Any], None]
) -> tuple[Rung, estimate.Estimate] | None:
  """Tries settings until a run fits.

  Where a device has no room for its share of parameters, optimiser and gradients,
  nothing about activations is tried.

  Args:
    first: the run as it was given, which does not fit.
    devices: the machine's devices.
    tell: is told of each rung and its `Estimate`, or the bytes of its state where
      these alone are too many.

  Returns:
    The first settings that fit, and their estimate; None where nothing helps.
  """
  topology = first.topology
  for spread in meshes(first.run, topology.count):
    held = estimate.state_bytes(spread.run, topology, devices)
    if held is None:
      continue
    if held > topology.memory():
      tell(spread, held)
      continue
    for rung in _rungs(spread, devices):
      found = estimate.of_run(rung.run, topology, devices)
      tell(rung, found)
      if found.memory.fits:
        return rung, found
  return None


def _rungs(spread: Rung, devices) -> Iterator[Rung]:
  if spread.flags:  # the run as it was given has been tried
    yield spread
  mesh = partitioning.make_mesh(spread.run.mesh, devices)
  yield from activations(spread, partitioning.batch_shards(mesh))


def _with_mesh(run: Any, shape: dict[str, int]) -> Rung:
  flag = f'--gin.MESH="{shape}"'
  return Rung(dataclasses.replace(run, mesh=shape), (flag,))

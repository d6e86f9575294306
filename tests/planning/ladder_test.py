"""The ladder ends at the first settings that fit, and tries nothing in vain."""

import dataclasses

import pytest

from t5tune.planning import estimate, ladder, memory
from tests.planning import plans

ROWS = 1000  # bytes of activations of a row, in the world of `simulated`


def simulated(run, topology, devices):
  """Returns an estimate without compiling: state as it is, activations by rules."""
  from t5tune import partitioning

  mesh = partitioning.make_mesh(run.mesh, devices)
  rows = run.batch_size / partitioning.batch_shards(mesh) / run.microbatches
  kept = {"none": 1.0, "dots": 0.6, "full": 0.2}[run.model.remat]
  peak = estimate.state_bytes(run, topology, devices) + int(rows * ROWS * kept)
  needed = memory.StepMemory(0, 0, 0, peak, topology.memory())
  return estimate.Estimate(
    *(run, topology, dict(mesh.shape), (64, 16), 0, needed, 0, [], 0.0, 0.0)
  )


def climb(monkeypatch, available: float, run=plans.RUN):
  monkeypatch.setattr(estimate, "of_run", simulated)
  topology, devices = plans.machine(available)
  first = simulated(run, topology, devices)
  assert not first.memory.fits
  told = []
  found = ladder.climb(first, devices, lambda rung, result: told.append(result))
  return found, told


def state(**settings) -> int:
  topology, devices = plans.machine(2**40)
  return estimate.state_bytes(plans.run_with(**settings), topology, devices)


def test_microbatches_come_first(monkeypatch):
  (rung, found), told = climb(monkeypatch, state() + 1.5 * ROWS)  # two rows do not fit
  assert rung.flags == ("--gin.run.Run.microbatches=2",)
  assert found.memory.fits and len(told) == 1


def test_then_rematerialisation(monkeypatch):
  (rung, _), told = climb(monkeypatch, state() + 0.7 * ROWS)
  assert rung.flags == (
    "--gin.run.Run.microbatches=2",
    "--gin.t5.T5Config.remat='dots'",
  )
  assert len(told) == 2


def test_a_state_that_is_too_large_is_spread_and_nothing_else_is_tried(monkeypatch):
  spread = {"data": 1, "fsdp": -1, "tensor": 1}
  (rung, _), told = climb(monkeypatch, state(mesh=spread) + 2.5 * ROWS)
  assert rung.run.mesh == spread and rung.run.microbatches == 1
  assert [type(x) for x in told] == [int, estimate.Estimate]


def test_lora_is_the_last_resort(monkeypatch):
  # Gradients and state of all parameters have no room, however they are spread.
  factors = plans.run_with(emb_dim=256, mlp_dim=1024, vocab_size=1024)
  topology, devices = plans.machine(2**40)
  meshes = [
    rung for rung in ladder.meshes(factors, 8) if "LORA" not in " ".join(rung.flags)
  ]
  whole = min(estimate.state_bytes(r.run, topology, devices) for r in meshes)
  (rung, _), _ = climb(monkeypatch, 0.9 * whole, factors)
  assert f"--gin.LORA_RANK={ladder.LORA_RANK}" in rung.flags
  assert rung.run.model.lora.rank == ladder.LORA_RANK


def test_nothing_helps(monkeypatch):
  found, told = climb(monkeypatch, 1000)
  assert found is None
  assert all(isinstance(x, int) for x in told)


@pytest.mark.parametrize("count", [1, 8])
def test_rungs_keep_batches_whole(count):
  run = dataclasses.replace(plans.RUN, batch_size=24)
  for rung in ladder.activations(ladder.Rung(run, ()), count):
    rung.run.check_batch(count)

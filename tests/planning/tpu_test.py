"""The whole of a run compiles for slices of TPUs, on a machine without any.

Run by `scripts/test -m tpu` where libtpu is installed (`pip install 't5tune[tpu]'`).
"""

import dataclasses

import jax
import pytest

from t5tune import partitioning
from t5tune.evaluation import programs as evaluation
from t5tune.models import beam_search
from t5tune.planning import chips, devices, estimate, hlo_text, programs, traffic
from t5tune.training import train_state
from tests.planning import plans

pytestmark = [
  pytest.mark.tpu,
  pytest.mark.skipif(not devices.has_libtpu(), reason="libtpu is not installed"),
]
# Small, and yet every axis of a mesh divides what it splits.
RUN = plans.run_with(
  emb_dim=256, num_heads=8, head_dim=32, mlp_dim=512, vocab_size=1024, dtype="bfloat16"
)
MESHES = [{"data": 8}, {"data": 2, "fsdp": 2, "tensor": 2}, {"fsdp": 8}]


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_the_training_step(mesh):
  topology = chips.parse("v5e:2x4")
  found, real = devices.of(topology)
  assert real and found[0].platform == "tpu"
  run = dataclasses.replace(RUN, mesh=mesh)
  planned = estimate.of_run(run, topology, found)
  assert planned.memory.fits  # what is so small never leaves the core
  assert planned.memory.peak > planned.memory.params + planned.memory.opt_state
  assert planned.least_seconds > 0
  sums = [c for c in planned.collectives if c.kind in ("all-reduce", "reduce-scatter")]
  assert sums, "gradients are summed over devices"
  if "fsdp" in mesh:
    assert any(c.kind == "all-gather" for c in planned.collectives)


@pytest.mark.parametrize("slice_", ["v5e:2x4", "v6e:2x4", "v5p:2x2x2"])
@pytest.mark.parametrize("beams", [1, 4], ids=["greedy", "beam"])
def test_what_an_evaluation_compiles(slice_, beams):
  found, _ = devices.of(chips.parse(slice_))
  mesh = partitioning.make_mesh({"data": 2, "fsdp": 2, "tensor": 2}, found)
  model = train_state.Model(RUN.model)
  beam = beam_search.BeamConfig(num_beams=beams)
  config = evaluation.EvalConfig(
    RUN.eval_batch_size, RUN.input_length, RUN.target_length, beam
  )
  params = model.abstract_params(mesh)
  lengths = (config.input_length, config.target_length)
  batch = programs.abstract_batch(mesh, config.batch_size, lengths)
  inputs = batch["encoder_input_tokens"], batch["encoder_segment_ids"]
  with jax.set_mesh(mesh):
    encode = evaluation.jit_encode(model)
    wanted = evaluation.DecodeConfig(config.target_length, config.beam)
    encoded = jax.eval_shape(encode, params, *inputs)
    lowered = [
      encode.lower(params, *inputs),
      evaluation.jit_decode(model, mesh, wanted).lower(params, encoded, inputs[1]),
    ]
    if beams == 1:
      losses = evaluation.jit_losses(model, mesh)
      lowered.append(losses.lower(params, encoded, inputs[1], batch))
  for program in lowered:
    compiled = program.compile()
    assert compiled.memory_analysis().argument_size_in_bytes > 0
    parsed = hlo_text.computations(compiled.as_text())
    assert traffic.hbm_bytes(parsed) > 4 * RUN.model.emb_dim**2


def test_a_model_that_is_too_large_is_refused_with_its_size():
  topology = chips.parse("v5e:2x4")
  found, _ = devices.of(topology)
  # Some 25 gigabytes of parameters, whole on every chip.
  model = dataclasses.replace(RUN.model, emb_dim=4096, mlp_dim=2**18)
  run = dataclasses.replace(RUN, model=model)
  planned = estimate.of_run(run, topology, found)
  assert not planned.memory.fits
  assert planned.memory.peak > topology.memory()
  assert planned.memory.available == pytest.approx(15.75 * 2**30)

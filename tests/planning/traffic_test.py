"""What a compiled program moves is read from its text."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from t5tune import partitioning
from t5tune.planning import hlo_text, traffic

FSDP = partitioning.make_mesh({"fsdp": 4, "data": 2})


WHOLE = PartitionSpec()


def compiled(function, *arrays, out=WHOLE):
  """Compiles for eight devices; `arrays` are shapes with their partition specs."""
  args = [
    jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(FSDP, spec))
    for shape, spec in arrays
  ]
  made = jax.jit(function, out_shardings=NamedSharding(FSDP, out)).lower(*args)
  return hlo_text.computations(made.compile().as_text())


def test_a_sum_over_devices_is_an_all_reduce():
  split = ((64, 256), PartitionSpec(("data", "fsdp"), None))
  program = compiled(lambda x: x.sum(0), split)
  (found,) = traffic.collectives(program, 8)
  assert (found.kind, found.devices, found.calls) == ("all-reduce", 8, 1)
  assert found.sent == 2 * 256 * 4 * 7 / 8  # there and back, around a ring


def test_layers_are_gathered_as_often_as_the_loop_runs():
  kernels = ((6, 32, 32), PartitionSpec(None, "fsdp", None))

  def apply(x, w):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

  rows = ((4096, 32), PartitionSpec(("data", "fsdp"), None))
  program = compiled(apply, rows, kernels, out=rows[1])
  found = {c.kind: c for c in traffic.collectives(program, 8)}
  gathered = found["all-gather"]
  assert gathered.devices == 4
  # All layers at once or one at a time, it is the same traffic.
  assert gathered.sent == 6 * 32 * 32 * 4 * 3 / 4


def test_a_loop_reads_each_layer_once():
  kernels = ((50, 64, 64), PartitionSpec())

  def apply(x, w):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

  program = compiled(apply, ((4, 64), PartitionSpec()), kernels)
  stack = 50 * 64 * 64 * 4
  # Sliced, perhaps copied, multiplied; the whole stack fifty times would be far more.
  assert stack <= traffic.hbm_bytes(program) < 4 * stack


@pytest.mark.parametrize(
  "written, size",
  [
    ("channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}", 4),
    ("replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add", 2),
    ("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}, x=1", 4),
    ("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_0','axis_1'}", 8),
    ("replica_groups=mesh['axis_0'=8] {'axis_0':(2)4}", 4),
    ("replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}, x={0}", 4),
    ("replica_groups={}, to_apply=%add", 8),
  ],
)
def test_groups_in_all_ways_they_are_written(written, size):
  assert traffic.group_size(written, 8) == size


TPU_PROGRAM = """\
HloModule jit_f, is_scheduled=true

%body.1 (p: (s32[], f32[4,8,128])) -> (s32[], f32[4,8,128]) {
  %p = (s32[]{:T(128)}, f32[4,8,128]{2,1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %w = f32[4,8,128]{2,1,0:T(8,128)} get-tuple-element(%p), index=1
  %slice.1 = f32[1,8,128]{2,1,0:T(8,128)S(1)} dynamic-slice(%w, %i), dynamic_slice_sizes={1,8,128}
  %all-gather.1 = f32[8,8,128]{2,1,0:T(8,128)S(1)} all-gather(%slice.1), replica_groups=[1,8]<=[8], dimensions={0}
  ROOT %t = (s32[]{:T(128)}, f32[4,8,128]{2,1,0:T(8,128)}) tuple(%i, %w)
}

%condition.1 (p: (s32[], f32[4,8,128])) -> pred[] {
  %p.1 = (s32[]{:T(128)}, f32[4,8,128]{2,1,0:T(8,128)}) parameter(0)
  %n = s32[]{:T(128)} constant(4)
  %i.1 = s32[]{:T(128)} get-tuple-element(%p.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i.1, %n), direction=LT
}

ENTRY %main.1 (w: f32[4,8,128]) -> (s32[], f32[4,8,128]) {
  %w.1 = f32[4,8,128]{2,1,0:T(8,128)} parameter(0)
  %zero = s32[]{:T(128)} constant(0)
  %start = (s32[]{:T(128)}, f32[4,8,128]{2,1,0:T(8,128)}) tuple(%zero, %w.1)
  ROOT %while.1 = (s32[]{:T(128)}, f32[4,8,128]{2,1,0:T(8,128)}) while(%start), condition=%condition.1, body=%body.1
}
"""


def test_a_tpu_program_whose_loops_do_not_say_how_often_they_run():
  program = hlo_text.computations(TPU_PROGRAM)
  assert program["body.1"].runs == 4
  (found,) = traffic.collectives(program, 8)
  assert (found.calls, found.sent) == (4, 4 * 7 * 8 * 128 * 4)
  # Each layer is read once; what lies in the core, S(1), is not main memory.
  assert traffic.hbm_bytes(program) == 4 * 8 * 128 * 4

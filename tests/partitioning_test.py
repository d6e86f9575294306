"""Tests of the mesh and of how logical axes lie on it."""

import logging

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from t5tune import errors, partitioning


def test_a_size_of_minus_one_takes_the_rest():
  assert dict(partitioning.make_mesh({"data": -1}).shape) == {
    "data": 8,
    "fsdp": 1,
    "tensor": 1,
  }
  mesh = partitioning.make_mesh({"fsdp": 2, "tensor": -1})
  assert tuple(mesh.shape.values()) == (1, 2, 4)
  assert len({d.id for d in mesh.devices.flat}) == 8
  few = partitioning.make_mesh({"data": -1}, jax.devices()[:3])
  assert few.shape["data"] == 3


@pytest.mark.parametrize(
  "sizes,message",
  [
    ({"data": 3}, r"MESH = .*'data': 3.* does not fit 8 device.*-1 to fill in"),
    ({}, "does not fit 8 device"),
    ({"data": -1, "tensor": 3}, "does not fit 8 device"),
    ({"data": 16}, "does not fit 8 device"),
    ({"data": -1, "fsdp": -1}, "one may be -1"),
    ({"data": 0, "fsdp": -1}, "sizes are positive"),
    ({"data": -2}, "sizes are positive"),
    ({"dat": 8}, r"names an axis 'dat'; .*data, fsdp, tensor.* Did you mean 'data'"),
  ],
  ids=str,
)
def test_a_mesh_that_does_not_fit_is_explained(sizes, message):
  with pytest.raises(errors.UserError, match=message):
    partitioning.make_mesh(sizes)


@pytest.fixture(scope="module")
def mesh():
  return partitioning.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})


@pytest.mark.parametrize(
  "axes,shape,expected",
  [
    (("embed", "mlp"), (32, 64), ("fsdp", "tensor")),
    (("layers", "mlp", "embed"), (3, 64, 32), (None, "tensor", "fsdp")),
    (("vocab", "embed"), (128, 32), ("tensor", "fsdp")),
    (("embed",), (32,), ("fsdp",)),
    # The batch takes `fsdp` first, so that it is not there for the width.
    (("batch", "length", "embed"), (8, 5, 32), (("data", "fsdp"), None, None)),
    (
      ("batch", "length", "heads", "kv"),
      (4, 5, 4, 8),
      (("data", "fsdp"), None, "tensor", None),
    ),
    ((None, "mlp"), (7, 64), (None, "tensor")),
  ],
  ids=str,
)
def test_logical_axes_map_to_the_mesh(mesh, axes, shape, expected):
  assert partitioning.partition_spec(mesh, axes, shape) == PartitionSpec(*expected)


def test_an_axis_that_does_not_divide_is_replicated_and_reported_once(caplog):
  mesh = partitioning.make_mesh({"fsdp": 2, "tensor": 4})
  # FLAN-T5 small has 6 heads.
  axes, shape = ("heads", "relpos_buckets"), (6, 32)
  with caplog.at_level(logging.WARNING):
    for _ in range(2):
      spec = partitioning.partition_spec(mesh, axes, shape)
      assert spec == PartitionSpec(None, None)
  lines = [r.getMessage() for r in caplog.records]
  assert lines == [
    "axis 'heads' of size 6 is not divisible by tensor = 4: replicated instead"
  ]
  # What the axis did not take is there for the next one.
  spec = partitioning.partition_spec(mesh, ("heads", "joined_kv"), (6, 384))
  assert spec == PartitionSpec(None, "tensor")


def test_axes_and_shape_must_match(mesh):
  with pytest.raises(ValueError, match="do not match"):
    partitioning.partition_spec(mesh, ("embed",), (32, 64))


def test_batch_shards(mesh):
  assert partitioning.batch_shards(mesh) == 4
  assert partitioning.batch_shards(partitioning.make_mesh({"tensor": 8})) == 1


@pytest.mark.parametrize(
  "sizes,first,second",
  [
    ({"data": 8}, range(0, 8), range(8, 16)),
    ({"fsdp": 4, "tensor": 2}, range(0, 8), range(8, 16)),
    ({"data": 2, "tensor": 4}, range(0, 8), range(8, 16)),
    # The tensor axis spans both processes: they feed the same rows.
    ({"tensor": 8}, range(0, 16), range(0, 16)),
  ],
  ids=str,
)
def test_each_process_feeds_the_rows_of_its_devices(sizes, first, second):
  mesh, devices = partitioning.make_mesh(sizes), jax.devices()
  for own, rows in ((devices[:4], first), (devices[4:], second)):
    assert partitioning.process_rows(mesh, 16, own).tolist() == list(rows)
  assert partitioning.process_rows(mesh, 16).tolist() == list(range(16))


def test_rows_need_not_be_successive():
  # As a mesh of TPU chips may place a host's.
  order = [jax.devices()[i] for i in (0, 4, 1, 5, 2, 6, 3, 7)]
  mesh = partitioning.make_mesh({"data": 8}, order)
  rows = partitioning.process_rows(mesh, 16, jax.devices()[:4])
  assert rows.tolist() == [0, 1, 4, 5, 8, 9, 12, 13]


@pytest.mark.parametrize("sizes", [{"data": 4, "tensor": 2}, {"fsdp": 8}], ids=str)
def test_a_batch_lies_on_the_mesh_as_it_was_read(sizes):
  mesh = partitioning.make_mesh(sizes)
  tokens = np.arange(16 * 5, dtype=np.int32).reshape(16, 5)
  batch = {"tokens": tokens, "weights": np.float32(tokens / 2)}
  rows = np.arange(16)
  placed = partitioning.put_batch(mesh, batch, rows, 16)
  assert partitioning.batch_shards(mesh) == len(
    {str(shard.index) for shard in placed["tokens"].addressable_shards}
  )
  for name, x in batch.items():
    np.testing.assert_array_equal(placed[name], x)
    assert placed[name].dtype == x.dtype


@pytest.fixture
def tpu_slice(monkeypatch):
  """Returns a function from a topology to its devices, none of which need be there."""
  pytest.importorskip("libtpu")
  from jax.experimental import topologies

  monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")

  def devices(name, **more):
    return topologies.get_topology_desc(
      platform="tpu", topology_name=name, **more
    ).devices

  return devices


@pytest.mark.tpu
def test_neighbours_on_the_mesh_are_neighbours_on_a_tpu_slice(tpu_slice):
  devices = tpu_slice("v5e:4x4")
  mesh = partitioning.make_mesh({"data": 4, "tensor": 4}, devices)
  coords = np.asarray([d.coords for d in mesh.devices.flat]).reshape(4, 4, 3)
  assert (np.abs(np.diff(coords, axis=1)).sum(-1) == 1).all()
  ring = partitioning.make_mesh({"fsdp": 16}, devices).devices.reshape(-1)
  coords = np.asarray([d.coords for d in (*ring, ring[0])])
  assert (np.abs(np.diff(coords, axis=0)).sum(-1) == 1).all()
  # Four hosts, whose chips need not be successive on the ring, feed all rows once.
  mesh = partitioning.make_mesh({"fsdp": 16}, devices)
  hosts = [[d for d in devices if d.process_index == i] for i in range(4)]
  fed = [partitioning.process_rows(mesh, 32, own) for own in hosts]
  assert sorted(np.concatenate(fed)) == list(range(32))


@pytest.mark.tpu
def test_only_the_batch_spans_tpu_slices(tpu_slice):
  devices = tpu_slice("v5e:2x2", num_slices=2)
  for sizes in ({"data": 2, "tensor": 4}, {"data": -1, "fsdp": 4}, {"fsdp": 8}):
    mesh = partitioning.make_mesh(sizes, devices).devices.reshape(2, 4)
    assert [{d.slice_index for d in half} for half in mesh] == [{0}, {1}]
  with pytest.raises(errors.UserError, match="2 TPU slices.*Make 'data'"):
    partitioning.make_mesh({"tensor": 8}, devices)


def test_constrain_pins_to_the_mesh_in_context(mesh):
  def double(x):
    return partitioning.constrain(2 * x, "batch", "embed")

  x = np.ones((8, 32), np.float32)
  with jax.set_mesh(mesh):
    pinned = jax.jit(double)(x)
  assert pinned.sharding.spec[0] == ("data", "fsdp")
  free = jax.jit(double)(x)
  assert len(free.sharding.device_set) == 1
  np.testing.assert_array_equal(pinned, free)

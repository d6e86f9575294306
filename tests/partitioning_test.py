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

"""Where arrays live: the device mesh and the table of logical axes.

Every parameter and activation names its dimensions by logical axes (`embed`,
`mlp`, ...); one table maps these to the mesh axes `data`, `fsdp` and `tensor`.
"""

import logging
import math
from collections.abc import Collection, Mapping, Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from t5tune import errors

MESH_AXES = ("data", "fsdp", "tensor")

# Logical axis -> mesh axes. A mesh axis serves one dimension of an array: the
# first that asks for it, so an activation ('batch', 'length', 'embed') gives
# `fsdp` to its batch and a kernel ('embed', 'mlp') gives it to its rows.
LOGICAL_AXIS_RULES: dict[str, tuple[str, ...]] = {
  "batch": ("data", "fsdp"),
  "length": (),
  "embed": ("fsdp",),
  "heads": ("tensor",),
  "kv": (),
  "joined_kv": ("tensor",),
  "mlp": ("tensor",),
  "vocab": ("tensor",),
  "relpos_buckets": (),
  "lora_rank": (),
  "layers": (),
}

_reported: set[tuple] = set()


def make_mesh(sizes: Mapping[str, int], devices: Sequence | None = None) -> Mesh:
  """Returns the device mesh of a run.

  Args:
    sizes: mesh axis -> number of devices; at most one may be -1, which takes
      the devices the others leave. An axis that is not named has size 1.
    devices: the devices to use; all of them by default.

  Returns:
    A `Mesh` over the axes `data`, `fsdp`, `tensor`. Its axis types are Auto:
    the compiler propagates shardings from the constraints we give.

  Raises:
    UserError: an axis is unknown or the sizes do not multiply to the number of
      devices.
  """
  devices = list(jax.devices() if devices is None else devices)
  for axis in sizes:
    if axis not in MESH_AXES:
      raise errors.UserError(
        f"MESH names an axis {axis!r}; the mesh has {', '.join(MESH_AXES)}."
        + errors.did_you_mean(axis, MESH_AXES)
      )
  shape = [int(sizes.get(axis, 1)) for axis in MESH_AXES]
  if shape.count(-1) > 1 or any(n < 1 and n != -1 for n in shape):
    raise errors.UserError(
      f"MESH = {dict(sizes)}: sizes are positive; one may be -1 (the rest)."
    )
  known = math.prod(n for n in shape if n != -1)
  if -1 in shape and len(devices) % known == 0:
    shape[shape.index(-1)] = len(devices) // known
  if math.prod(shape) != len(devices):
    raise errors.UserError(
      f"MESH = {dict(sizes)} does not fit {len(devices)} device(s): the sizes must"
      f" multiply to {len(devices)}; set one of them to -1 to fill in."
    )
  return Mesh(
    _arranged(devices, shape),
    MESH_AXES,
    axis_types=(AxisType.Auto,) * len(MESH_AXES),
  )


def _arranged(devices: Sequence, shape: Sequence[int]) -> np.ndarray:
  """Returns the devices as a mesh whose last axes lie closest together.

  On a TPU, neighbours on the mesh are neighbours on the chips' own network. Elsewhere
  devices are in order, a host's beside each other.
  """
  if devices[0].platform == "tpu":
    slices = {getattr(d, "slice_index", 0) for d in devices}
    between = _between_slices(shape, len(slices))
    if between is not None:
      within = [n // m for n, m in zip(shape, between, strict=True)]
      return mesh_utils.create_hybrid_device_mesh(within, between, devices)
    return mesh_utils.create_device_mesh(shape, devices)
  return np.asarray(devices).reshape(shape)


def _between_slices(shape: Sequence[int], slices: int) -> list[int] | None:
  """Returns how the slices of several TPU pods divide the mesh; None of a single one.

  The network between slices is slow, so only `data`, or else `fsdp`, spans it.
  """
  if slices == 1:
    return None
  for axis in (0, 1):
    if shape[axis] % slices == 0:
      return [slices if i == axis else 1 for i in range(len(shape))]
  raise errors.UserError(
    f"MESH = {dict(zip(MESH_AXES, shape, strict=True))}: these are {slices} TPU slices,"
    " and the network between them is slow. Make 'data' (or 'fsdp') a multiple of"
    f" {slices}."
  )


def batch_shards(mesh: Mesh) -> int:
  """Returns into how many parts the mesh splits the rows of a batch."""
  return math.prod(mesh.shape[axis] for axis in LOGICAL_AXIS_RULES["batch"])


def process_rows(
  mesh: Mesh, batch_size: int, devices: Collection | None = None
) -> np.ndarray:
  """Returns the rows of a global batch that a process feeds, in order.

  Where the tensor axis spans processes, these feed the same rows.

  Args:
    mesh: the device mesh.
    batch_size: rows of a global batch.
    devices: the devices that the process feeds; this process's own by default.

  Returns:
    int64 (rows,), indices below `batch_size`.
  """
  placed = sharding(mesh, ("batch",), (batch_size,))
  own = placed.addressable_devices if devices is None else devices
  rows = np.arange(batch_size)
  parts = placed.devices_indices_map((batch_size,))
  return np.unique(np.concatenate([rows[parts[device]] for device in own]))


def put_batch(
  mesh: Mesh, batch: Mapping[str, np.ndarray], rows: np.ndarray, batch_size: int
) -> dict[str, jax.Array]:
  """Lays a batch out on the mesh, each process its own rows.

  Args:
    mesh: the device mesh.
    batch: name -> (len(rows), length), this process's rows.
    rows: int64, which rows of the global batch these are, from `process_rows`.
    batch_size: rows of the global batch.

  Returns:
    name -> global array (batch_size, length).
  """

  def put(x):
    shape = (batch_size, *x.shape[1:])

    def part(index):  # the rows of a device are successive, here as in the global batch
      first, end, _ = index[0].indices(batch_size)
      begin = np.searchsorted(rows, first)
      return x[begin : begin + end - first]

    placed = sharding(mesh, ("batch", "length"), shape)
    return jax.make_array_from_callback(shape, placed, part)

  return {name: put(x) for name, x in batch.items()}


def partition_spec(
  mesh: Mesh, logical_axes: Sequence[str | None], shape: Sequence[int]
) -> PartitionSpec:
  """Returns how an array of these logical axes and shape lies on the mesh.

  A dimension that its mesh axes do not divide is replicated, with one line in
  the log; a mesh axis already taken by an earlier dimension is skipped.

  Args:
    mesh: the device mesh.
    logical_axes: a name of `LOGICAL_AXIS_RULES`, or None, for each dimension.
    shape: the array's global shape.
  """
  if len(logical_axes) != len(shape):
    raise ValueError(f"axes {logical_axes} do not match shape {tuple(shape)}")
  used, entries = set(), []
  for name, size in zip(logical_axes, shape, strict=True):
    axes = () if name is None else LOGICAL_AXIS_RULES[name]
    axes = tuple(a for a in axes if a not in used and mesh.shape[a] > 1)
    parts = math.prod(mesh.shape[a] for a in axes)
    if size % parts:
      key = (name, size, parts)
      if key not in _reported:
        _reported.add(key)
        logging.getLogger(__name__).warning(
          "axis %r of size %d is not divisible by %s = %d: replicated instead",
          name,
          size,
          "x".join(axes),
          parts,
        )
      axes = ()
    used.update(axes)
    entries.append(axes if len(axes) > 1 else axes[0] if axes else None)
  return PartitionSpec(*entries)


def sharding(
  mesh: Mesh, logical_axes: Sequence[str | None], shape: Sequence[int]
) -> NamedSharding:
  """Returns the `NamedSharding` of `partition_spec`."""
  return NamedSharding(mesh, partition_spec(mesh, logical_axes, shape))


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding that keeps a whole copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def on_one_cpu_device() -> bool:
  """Returns whether what is traced here will run on a single device, a CPU."""
  return jax.default_backend() == "cpu" and _on_one_device()


def on_one_gpu() -> bool:
  """Returns whether what is traced here will run on a single device, a GPU."""
  return jax.default_backend() == "gpu" and _on_one_device()


def _on_one_device() -> bool:
  mesh = jax.sharding.get_abstract_mesh()
  return mesh.empty or mesh.size == 1


def constrain(x: jax.Array, *logical_axes: str | None) -> jax.Array:
  """Pins an activation to the mesh in context (`jax.set_mesh`), if there is one.

  Args:
    x: an activation inside a jitted function.
    *logical_axes: the logical axis of each dimension of `x`.

  Returns:
    `x`, with a sharding constraint where a mesh of several devices is set.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return x
  return jax.lax.with_sharding_constraint(
    x, partition_spec(mesh, logical_axes, x.shape)
  )

"""Checksums of arrays, computed where they lie: on the device, whatever the mesh.

They follow values from the device to the disk and back; what the disk alone may do to a
file, `checkpoint_files.py` finds.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec


def by_path(tree) -> dict[str, Any]:
  """Returns name -> array, in the tree's order; a name is such as 'params/wi/kernel'."""
  name = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
  return {name(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def checksums(tree):
  """Returns a uint32 for every array, the same on every mesh and to every process."""
  leaf = next(iter(jax.tree.leaves(tree)), None)
  sharding = getattr(leaf, "sharding", None)
  mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
  return _checksum_program(mesh)(tree)


@functools.cache
def _checksum_program(mesh):
  """Returns the jitted checksums of a tree.

  Axis after axis, each word is multiplied by an odd number of its position and all are
  added modulo 2**32. So any single changed word changes the sum, and as integers add up
  in any order, it does not depend on how the array is split.
  """

  def checksum(x):
    unsigned = jnp.dtype(f"uint{8 * x.dtype.itemsize}")
    words = jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)
    while words.ndim:  # not reshaped to one axis: that would gather what is sharded
      place = jax.lax.broadcasted_iota(jnp.uint32, words.shape, 0)
      words = jnp.sum(words * (place * jnp.uint32(2654435761) * 2 + 1), axis=0)
    return words

  def checksums(tree):
    return jax.tree.map(checksum, tree)

  replicated = NamedSharding(mesh, PartitionSpec()) if mesh is not None else None
  return jax.jit(checksums, out_shardings=replicated)

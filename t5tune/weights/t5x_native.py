"""Reads and writes T5X's native ("legacy") layout.

    checkpoint_<step>/checkpoint                       msgpack: tree, small arrays
    checkpoint_<step>/target.encoder.encoder_norm.scale/{.zarray,0}       zarr v2

The layout is that of T5X's `checkpoints.Checkpointer`.
"""

import math
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import tensorstore as ts
from flax import serialization

from t5tune import errors
from t5tune.weights import names, t5x_arrays, weights
from t5tune.weights.t5x_arrays import StoredArray

MARKER = "checkpoint"
# Version 2 stores bfloat16 as uint16; T5X itself reads nothing older.
_VERSION, _BFLOAT16_AS_UINT16 = 3, 2
_CHUNK_BYTES = 64 * 1024 * 1024
_SPEC_KEYS = {"driver", "kvstore", "metadata"}
# The longest distance of the relative positions, fixed in T5X's network.
_MAX_DISTANCE = 128


def read(
  origin: str, directory: ts.KvStore, content: bytes
) -> tuple[dict[str, StoredArray], int]:
  """Lists the parameters of a checkpoint.

  Args:
    origin: the checkpoint, for messages.
    directory: its directory.
    content: what its file `checkpoint` holds.

  Returns:
    T5X's name, without `target/` -> array; and the step.

  Raises:
    UserError: the file is damaged, of an unknown version or none of T5X's.
  """
  version, saved = _tree(origin, content)
  arrays = {}
  for name, leaf in _leaves(saved["target"]):
    label = f"{origin}: parameter {name}"
    if isinstance(leaf, np.ndarray | np.generic):
      arrays[name] = _inline(label, np.asarray(leaf))
    elif isinstance(leaf, Mapping):
      arrays[name] = _in_zarr(label, directory, leaf, version)
    elif leaf is not None:
      raise errors.UserError(
        f"{label} is {leaf!r:.60} in {MARKER}, neither an array nor where to find"
        f" one. {t5x_arrays.DAMAGED}"
      )
  return arrays, _step(origin, saved)


def _tree(origin: str, content: bytes) -> tuple[int, dict[str, Any]]:
  """Returns the version, and the tree that holds `target` and `state`."""
  if content.startswith(b"model_checkpoint_path"):
    raise errors.UserError(
      f"{origin} is a TensorFlow checkpoint, as the first T5s were published. Name the"
      " T5X one of the same model (T5X's docs/models.md lists them), or Hugging Face's."
    )
  try:
    tree = serialization.msgpack_restore(content)
  except Exception as e:  # msgpack, flax and numpy raise many kinds
    raise errors.UserError(
      f"{origin}/{MARKER} ({len(content)} bytes) is not whole:"
      f" {t5x_arrays.reason(e)}. {t5x_arrays.DAMAGED}"
    ) from e
  keys = sorted(map(str, tree)) if isinstance(tree, dict) else []
  if "_optimizer" in keys or ("target" in keys and "version" not in keys):
    raise errors.UserError(
      f"{origin} is in a layout that T5X had for some months of 2022 and 2023. Restore"
      " it with T5X and save it anew."
    )
  version = tree.get("version", 0) if keys else None
  if version not in (_BFLOAT16_AS_UINT16, _VERSION):
    raise errors.UserError(
      f"{origin}/{MARKER} is of version {version!r}, with the keys {keys}. t5tune reads"
      f" versions {_BFLOAT16_AS_UINT16} and {_VERSION} of T5X's checkpoints; restore"
      " another one with the T5X that wrote it, and save it anew."
    )
  saved = tree.get("optimizer")
  if not isinstance(saved, dict) or not isinstance(saved.get("target"), dict):
    raise errors.UserError(
      f"{origin}/{MARKER} has no optimizer/target, where T5X keeps parameters; it has"
      f" the keys {keys}. {t5x_arrays.DAMAGED}"
    )
  return version, saved


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
  """Yields (name, array, description of a zarr array, or None)."""
  for key, value in tree.items():
    if isinstance(value, dict) and not value.keys() >= _SPEC_KEYS:
      yield from _leaves(value, f"{above}{key}/")
    else:
      yield f"{above}{key}", value


def _inline(label: str, value: np.ndarray) -> StoredArray:
  return StoredArray(value.shape, lambda: weights.floating(label, value))


def _in_zarr(
  label: str, directory: ts.KvStore, spec: Mapping[str, Any], version: int
) -> StoredArray:
  """Returns the array that a TensorStore spec describes.

  Of the spec's store only the path counts, which is relative: `file`, `gfile` and
  `gcs` with its made-up bucket say where the checkpoint was when it was written.
  """
  try:
    # At the top in files that TensorStore before 0.1.14 wrote.
    path = spec["kvstore"].get("path") or spec["path"]
    metadata = spec["metadata"]
    shape = tuple(int(n) for n in metadata["shape"])
    described = {"dtype": spec.get("dtype"), "metadata": metadata}
    if not described["dtype"]:
      described["dtype"] = np.dtype(metadata["dtype"]).name
    array_directory = directory / f"{path.rstrip('/')}/"
  except (KeyError, TypeError, ValueError, AttributeError) as e:
    raise errors.UserError(
      f"{label}: {MARKER} does not say where it lies ({type(e).__name__}: {e})."
      f" {t5x_arrays.DAMAGED}"
    ) from e
  if spec["driver"] != "zarr":
    raise errors.UserError(
      f"{label} is stored as {spec['driver']!r}; T5X's checkpoints use zarr. Restore it"
      " with the T5X that wrote it, and save it anew."
    )
  as_uint16 = version == _BFLOAT16_AS_UINT16
  return t5x_arrays.zarr_array(
    f"{label} ({path})", array_directory, shape, described, as_uint16
  )


def _step(origin: str, saved: Mapping[str, Any]) -> int:
  try:
    return int(saved["state"]["step"])
  except (KeyError, TypeError, ValueError) as e:
    raise errors.UserError(
      f"{origin}/{MARKER} has no number as optimizer/state/step. {t5x_arrays.DAMAGED}"
    ) from e


def write(
  source: weights.Weights,
  path: pathlib.Path,
  dtype: str | None,
  progress: Callable[[int, int], None],
) -> None:
  """Writes a checkpoint without optimiser state, one tensor at a time.

  It is what T5X's `Checkpointer` makes of an inference state: T5X restores it, given
  the gin file of the architecture. The file `checkpoint` comes last.

  Args:
    source: the weights.
    path: the directory of the checkpoint, absent or empty. T5X looks for
      `checkpoint_<step>`.
    dtype: 'float32' or 'bfloat16'; None keeps each tensor's own.
    progress: told of the tensors written and their number.

  Raises:
    UserError: T5X's network cannot compute what this architecture does, or a tensor
      cannot be read.
    OSError: the place cannot be written.
  """
  check_writable(source)
  target: dict[str, Any] = {}
  members = [name for stack in names.stacks(source.config).values() for name in stack]
  for done, name in enumerate(members, start=1):
    value = source.tensor(name)
    value = np.ascontiguousarray(value, jnp.dtype(dtype) if dtype else None)
    *folders, last = name.split("/")
    inside = target
    for folder in folders:
      inside = inside.setdefault(folder, {})
    inside[last] = _write_array(path, f"target.{name.replace('/', '.')}", value)
    progress(done, len(members))
  state = {"step": np.asarray(source.step, np.int32)}
  tree = {
    "version": _VERSION,
    # In the order of T5X, whose jax.tree.map sorts the keys.
    "optimizer": {"state": state, "target": _sorted(target)},
  }
  (path / MARKER).write_bytes(serialization.msgpack_serialize(tree, in_place=True))


def check_writable(source: weights.Weights) -> None:
  """Checks that T5X's network computes what an architecture does.

  Args:
    source: the weights.

  Raises:
    UserError: it does not.
  """
  config = source.config
  if config.scales_decoder_outputs != config.logits_via_embedding:
    raise errors.UserError(
      f"{source.origin} cannot become a T5X checkpoint: scale_decoder_outputs ="
      f" {config.scales_decoder_outputs} with logits_via_embedding ="
      f" {config.logits_via_embedding}, where T5X's network scales the decoder's output"
      " if and only if it shares the embedding. Convert to Hugging Face's format."
    )
  if config.relpos_max_distance != _MAX_DISTANCE:
    raise errors.UserError(
      f"{source.origin} cannot become a T5X checkpoint: relpos_max_distance ="
      f" {config.relpos_max_distance}, where T5X's network has {_MAX_DISTANCE}."
      " Convert to Hugging Face's format."
    )


def _write_array(path: pathlib.Path, folder: str, value: np.ndarray) -> dict[str, Any]:
  """Writes an array; returns its TensorStore spec, relative to the checkpoint."""
  spec = {
    "driver": "zarr",
    "dtype": value.dtype.name,
    "kvstore": {"driver": "file", "path": f"{folder}/"},
    "metadata": {
      "chunks": list(chunk_shape(value.shape, value.dtype.itemsize)),
      "compressor": {"id": "gzip", "level": 1},
      "shape": list(value.shape),
    },
  }
  here = {"driver": "file", "path": f"{path.absolute() / folder}/"}
  try:
    array = ts.open(spec | {"kvstore": here}, create=True, context=t5x_arrays.CONTEXT)
    # Without this TensorStore would copy the array first.
    array.result().write(value, can_reference_source_data_indefinitely=True).result()
  except Exception as e:  # TensorStore raises many kinds
    raise OSError(f"{folder}: {t5x_arrays.reason(e)}") from e
  return spec


def chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
  """Returns chunks of at most 64 MiB that divide an array evenly.

  The largest dimension is split first, as in T5X's `_choose_chunk_shape`.

  Args:
    shape: of the array.
    itemsize: bytes of a value.
  """
  chunks = list(shape)
  while math.prod(chunks) * itemsize > _CHUNK_BYTES:
    axis = chunks.index(max(chunks))
    smaller = range(chunks[axis] - 1, 0, -1)
    chunks[axis] = next(n for n in smaller if shape[axis] % n == 0)
  return tuple(chunks)


def _sorted(tree: Any) -> Any:
  """Returns a tree of dictionaries with their keys in order, specs included."""
  if not isinstance(tree, dict):
    return tree
  return {key: _sorted(tree[key]) for key in sorted(tree)}

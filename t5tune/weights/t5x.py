"""T5X checkpoints: finds them, opens either layout, writes the native one.

    checkpoint_<step>/ -> arrays (t5x_native, t5x_orbax) -> numbered layers -> Weights

The public functions of this module are what the rest of t5tune calls.
"""

import functools
import pathlib
import re

import numpy as np
import tensorstore as ts

from t5tune import errors
from t5tune.weights import (
  architecture,
  names,
  t5x_arrays,
  t5x_native,
  t5x_orbax,
  weights,
)
from t5tune.weights.t5x_arrays import StoredArray

_SAVED = re.compile(r"(checkpoint_(\d+))/.*", re.DOTALL)
_OWN_BIAS = re.compile(r"(encoder|decoder)/layers_\d+/(relpos_bias/rel_embedding)")
# T5X's default of `param_scan_axis`.
_SCAN_AXIS = 1

write_native = t5x_native.write


def is_checkpoint(path: str) -> bool:
  """Whether a directory looks like a T5X checkpoint, or like one that holds some.

  Args:
    path: a local directory or gs:// path, of either layout.

  Raises:
    UserError: a gs:// path cannot be reached.
  """
  if pathlib.Path(path).is_file():
    return False
  directory = t5x_arrays.open_directory(path)
  markers = (t5x_native.MARKER, *t5x_orbax.MARKERS)
  found = (t5x_arrays.read_file(path, directory, name) for name in markers)
  return any(x is not None for x in found) or bool(_latest(path, directory))


def open_checkpoint(path: str) -> weights.Weights:
  """Opens a checkpoint that T5X wrote; tensors are read when asked for.

  Args:
    path: `checkpoint_<step>`, or a directory of several, which means the highest
      step; local, or gs://bucket/folder.

  Raises:
    UserError: it cannot be found or reached, is damaged, or is another network.
  """
  origin, directory = path.rstrip("/") or "/", t5x_arrays.open_directory(path)
  read = _read(origin, directory)
  if read is None and (latest := _latest(origin, directory)):
    origin, directory = f"{origin}/{latest}", directory / f"{latest}/"
    read = _read(origin, directory)
  if read is None:
    raise errors.UserError(
      f"{origin} is no T5X checkpoint, and holds no finished checkpoint_<step>: there is"
      f" neither a file {t5x_native.MARKER} nor {t5x_orbax.MARKERS[0]}. Name a"
      " checkpoint_<step> directory, or the one that holds it."
    )
  arrays, step = read
  arrays = _share_bias(origin, _number_layers(origin, arrays))
  shapes = {name: array.shape for name, array in arrays.items()}
  vocabulary = pathlib.Path(path).expanduser() / "spiece.model"
  return weights.Weights(
    origin=origin,
    config=architecture.infer(origin, shapes),
    shapes=shapes,
    read=lambda name: arrays[name].read(),
    vocabulary=vocabulary if vocabulary.is_file() else None,
    step=step,
    described=False,
  )


def _latest(origin: str, directory: ts.KvStore) -> str | None:
  """Returns the name of the checkpoint with the highest step in a directory."""
  files = t5x_arrays.list_files(origin, directory, "checkpoint_")
  found = [saved for saved in map(_SAVED.fullmatch, files) if saved]
  return max(found, key=lambda saved: int(saved[2]))[1] if found else None


def _read(
  origin: str, directory: ts.KvStore
) -> tuple[dict[str, StoredArray], int] | None:
  """Returns name -> array and the step, or None if this is no checkpoint."""
  content = t5x_arrays.read_file(origin, directory, t5x_native.MARKER)
  if content is not None:
    return t5x_native.read(origin, directory, content)
  for marker in t5x_orbax.MARKERS:
    if t5x_arrays.read_file(origin, directory, marker) is not None:
      return t5x_orbax.read(origin, directory)
  return None


def _number_layers(
  origin: str, arrays: dict[str, StoredArray]
) -> dict[str, StoredArray]:
  """Takes layers apart that are stacked, as T5X's scalable_t5 has them.

  There `encoder/encoder/mlp/wo/kernel` has the axis of `param_scan_axis` more; row i
  becomes `encoder/layers_i/mlp/wo/kernel`.
  """

  @functools.lru_cache(maxsize=1)  # the rows of a stack are asked for in turn
  def read_stack(name: str) -> np.ndarray:
    return arrays[name].read()

  def read_row(name: str, axis: int, i: int) -> np.ndarray:
    return np.take(read_stack(name), i, axis)

  found = {}
  for name, array in arrays.items():
    stack, _, inside = name.partition("/")
    if not inside.startswith(f"{stack}/"):
      found[name] = array
      continue
    axis = _scan_axis(arrays, stack)
    if len(array.shape) <= axis:
      raise errors.UserError(
        f"{origin}: parameter {name} has shape {array.shape}: it has no axis {axis} of"
        " stacked layers, as others have. This is no network of T5X's scalable_t5."
      )
    shape = array.shape[:axis] + array.shape[axis + 1 :]
    for i in range(array.shape[axis]):
      numbered = name.replace(f"{stack}/{stack}/", f"{stack}/layers_{i}/", 1)
      row = functools.partial(read_row, name, axis, i)
      found[numbered] = StoredArray(shape, row)
  return found


def _scan_axis(arrays: dict[str, StoredArray], stack: str) -> int:
  """Returns the axis of stacked layers, told from a norm's scale, (d, l) or (l, d)."""
  norm = arrays.get(f"{stack}/{stack}/pre_mlp_layer_norm/scale")
  embedding = arrays.get(names.EMBEDDING)
  if norm and embedding and len(norm.shape) == len(embedding.shape) == 2:
    emb_dim = embedding.shape[1]
    if norm.shape[1] == emb_dim != norm.shape[0]:
      return 0
  return _SCAN_AXIS


def _share_bias(origin: str, arrays: dict[str, StoredArray]) -> dict[str, StoredArray]:
  """Makes one relative position bias of those that scalable_t5 has in every layer."""
  own: dict[str, list[str]] = {}
  for name in arrays:
    if found := _OWN_BIAS.fullmatch(name):
      own.setdefault(f"{found[1]}/{found[2]}", []).append(name)
  if not own:
    return arrays
  shared = dict(arrays)
  for name, copies in own.items():
    first = arrays[copies[0]].read()
    for copy in copies:
      if not np.array_equal(first, arrays[copy].read()):
        raise errors.UserError(
          f"{origin}: parameter {copy} is not that of {copies[0]}. Layers with relative"
          " position biases of their own (umT5, or scalable_t5 after training) are not"
          " supported: a T5 shares one bias in each stack."
        )
      del shared[copy]
    shared[name] = arrays[copies[0]]
  return shared

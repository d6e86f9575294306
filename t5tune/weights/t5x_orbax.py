"""Reads checkpoints that T5X wrote through Orbax, its default since 2023.

`state/` holds one zarr array per leaf, `target.encoder.encoder_norm.scale/` and so
on, usually inside an OCDBT database; `dataset/` beside it is of no use here.
"""

import json

import tensorstore as ts

from t5tune import errors
from t5tune.weights import t5x_arrays
from t5tune.weights.t5x_arrays import StoredArray

_DATABASE = "state/manifest.ocdbt"
MARKERS = ("state/_METADATA", _DATABASE)
_TARGET, _ZARRAY = "target.", "/.zarray"
_STEP = "state.step"


def read(origin: str, directory: ts.KvStore) -> tuple[dict[str, StoredArray], int]:
  """Lists the parameters of a checkpoint.

  Args:
    origin: the checkpoint, for messages.
    directory: its directory.

  Returns:
    T5X's name, without `target/` -> array; and the step.

  Raises:
    UserError: it is damaged.
  """
  state = _state(origin, directory)
  listed = t5x_arrays.list_files(origin, state, _TARGET)
  arrays = {}
  for file in listed:
    if file.endswith(_ZARRAY):
      folder = file.removesuffix(_ZARRAY)
      name = folder.removeprefix(_TARGET).replace(".", "/")
      arrays[name] = _array(origin, state, folder, name)
  if not arrays:
    raise errors.UserError(
      f"{origin}/state holds no parameters (arrays named target.*). The checkpoint is"
      " unfinished or damaged: get another copy of it."
    )
  return arrays, _step(origin, state)


def _state(origin: str, directory: ts.KvStore) -> ts.KvStore:
  if t5x_arrays.read_file(origin, directory, _DATABASE) is None:
    return directory / "state/"
  base = (directory / "state/").spec().to_json()
  try:
    return ts.KvStore.open(
      {"driver": "ocdbt", "base": base}, context=t5x_arrays.CONTEXT
    ).result()
  except Exception as e:  # TensorStore raises many kinds
    raise t5x_arrays.unreadable(f"{origin}/state", e) from e


def _array(origin: str, state: ts.KvStore, folder: str, name: str) -> StoredArray:
  label = f"{origin}: parameter {name} (state/{folder})"
  metadata = t5x_arrays.read_file(origin, state, folder + _ZARRAY)
  try:
    shape = tuple(int(n) for n in json.loads(metadata)["shape"])
  except (ValueError, KeyError, TypeError) as e:
    raise errors.UserError(
      f"{label}: its .zarray is not zarr metadata. {t5x_arrays.DAMAGED}"
    ) from e
  return t5x_arrays.zarr_array(label, state / f"{folder}/", shape)


def _step(origin: str, state: ts.KvStore) -> int:
  spec = {"driver": "zarr", "fill_missing_data_reads": False}
  try:
    array = ts.open(spec, kvstore=state / f"{_STEP}/", context=t5x_arrays.CONTEXT)
    return int(array.result().read().result())
  except Exception as e:  # TensorStore raises many kinds
    raise errors.UserError(
      f"{origin}: the step (state/{_STEP}) cannot be read: {t5x_arrays.reason(e)}."
      f" {t5x_arrays.DAMAGED}"
    ) from e

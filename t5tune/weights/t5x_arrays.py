"""What T5X's two layouts share: files and zarr arrays, read through TensorStore.

A directory is a TensorStore `KvStore`, so that gs:// takes the code of local disks.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import tensorstore as ts

from t5tune import errors
from t5tune.weights import weights

# A bucket that cannot be reached is given up after some 10 seconds.
CONTEXT = ts.Context(
  {
    "gcs_request_retries": {
      "max_retries": 4,
      "initial_delay": "500ms",
      "max_delay": "8s",
    }
  }
)
DAMAGED = "The checkpoint is damaged: get another copy of it."


@dataclasses.dataclass(frozen=True)
class StoredArray:
  """An array of a checkpoint that is read when asked for, as float32 or bfloat16.

  Attributes:
    shape: its shape as the checkpoint declares it.
    read: gives the array; it raises a `UserError` that names file and parameter.
  """

  shape: tuple[int, ...]
  read: Callable[[], np.ndarray]


def open_directory(path: str) -> ts.KvStore:
  """Opens a directory, which need not exist.

  Args:
    path: a local path or a URL that TensorStore knows, such as gs://bucket/folder.

  Raises:
    UserError: the URL is none of TensorStore's, or the path is a file.
  """
  local = pathlib.Path(path).expanduser().absolute()
  if "://" in path:
    spec = f"{path.rstrip('/')}/"
  elif local.is_file():
    raise errors.UserError(
      f"{path} is a file; name the directory that holds the checkpoint."
    )
  else:
    spec = {"driver": "file", "path": f"{str(local).rstrip('/')}/"}
  try:
    return ts.KvStore.open(spec, context=CONTEXT).result()
  except Exception as e:  # TensorStore raises many kinds, here and below
    raise errors.UserError(
      f"{path} cannot be opened: {reason(e)}. Name a local directory or"
      " gs://bucket/folder."
    ) from e


def read_file(origin: str, directory: ts.KvStore, name: str) -> bytes | None:
  """Returns the content of a file, or None if there is none.

  Args:
    origin: the directory, for messages.
    directory: the directory.
    name: the file's path inside it.

  Raises:
    UserError: it cannot be read.
  """
  try:
    found = directory.read(name).result()
  except Exception as e:
    raise unreadable(origin, e) from e
  return bytes(found.value) if found.state == "value" else None


def list_files(origin: str, directory: ts.KvStore, start: str) -> list[str]:
  """Returns the paths of all files in a directory that begin with `start`.

  Args:
    origin: the directory, for messages.
    directory: the directory.
    start: the beginning, at least one ASCII character.

  Raises:
    UserError: it cannot be listed.
  """
  after = start[:-1] + chr(ord(start[-1]) + 1)
  try:
    found = directory.list(ts.KvStore.KeyRange(start, after)).result()
  except Exception as e:
    raise unreadable(origin, e) from e
  return sorted(name.decode("utf-8", "replace") for name in found)


def zarr_array(
  label: str,
  directory: ts.KvStore,
  shape: tuple[int, ...],
  metadata: Mapping[str, Any] | None = None,
  bfloat16_as_uint16: bool = False,
) -> StoredArray:
  """Returns an array whose `.zarray` and chunks lie in a directory of its own.

  Args:
    label: checkpoint and parameter, for messages.
    directory: the array's directory.
    shape: the shape that the checkpoint declares.
    metadata: zarr metadata and `dtype`, used if there is no `.zarray`.
    bfloat16_as_uint16: whether uint16 stands for bfloat16.

  Raises (when read):
    UserError: a file is missing or damaged, or shape or dtype are not as declared.
  """

  def read() -> np.ndarray:
    # T5X writes every chunk; without this a missing one would read as zeros.
    spec = {"driver": "zarr", "fill_missing_data_reads": False}
    how = {"open": True}
    try:
      if metadata and directory.read(".zarray").result().state == "missing":
        spec |= {"dtype": metadata["dtype"], "metadata": dict(metadata["metadata"])}
        how = {"assume_metadata": True}
      array = ts.open(spec, kvstore=directory, context=CONTEXT, **how).result()
      value = array.read().result() if array.shape == shape else None
    except Exception as e:
      raise errors.UserError(f"{label} cannot be read: {reason(e)}. {DAMAGED}") from e
    if value is None:
      raise errors.UserError(
        f"{label} has shape {array.shape}, but is listed with {shape}. {DAMAGED}"
      )
    if bfloat16_as_uint16 and value.dtype == np.uint16:
      value = value.view(jnp.bfloat16)
    return weights.floating(label, value)

  return StoredArray(shape, read)


def unreadable(origin: str, error: Exception) -> errors.UserError:
  """Returns what to tell when a checkpoint's directory cannot be read."""
  remote = (
    " Check the name and the network, or copy it to this machine with"
    f" `gcloud storage cp -r {origin} .` and name the copy."
  )
  fix = remote if "://" in origin else " Check the name and its permissions."
  return errors.UserError(f"{origin} cannot be read: {reason(error)}.{fix}")


def reason(error: Exception) -> str:
  """Returns the first line of an error's message, without its full stop."""
  lines = str(error).strip().splitlines() or [type(error).__name__]
  return lines[0].strip().rstrip(".")

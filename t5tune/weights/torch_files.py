"""Reads the tensors of a `pytorch_model.bin`, without torch and without its risks.

Such a file is a zip archive: a pickle that describes tensors, and one raw file for
each storage they lie in. Only what describes a tensor is unpickled; anything else
that the pickle asks for is refused, so that a file cannot run code.
"""

import collections
import dataclasses
import io
import pathlib
import pickle
import zipfile
from typing import Any

import ml_dtypes
import numpy as np

from t5tune import errors

_STORAGES = {
  "DoubleStorage": np.float64,
  "FloatStorage": np.float32,
  "HalfStorage": np.float16,
  "BFloat16Storage": ml_dtypes.bfloat16,
  "LongStorage": np.int64,
  "IntStorage": np.int32,
  "ShortStorage": np.int16,
  "CharStorage": np.int8,
  "ByteStorage": np.uint8,
  "BoolStorage": np.bool_,
}


@dataclasses.dataclass(frozen=True)
class _StorageType:
  dtype: Any


@dataclasses.dataclass(frozen=True)
class _Storage:
  """A raw file of the archive: its name and the dtype of its elements."""

  key: str
  dtype: Any


@dataclasses.dataclass(frozen=True)
class Tensor:
  """Where a tensor lies: a view of a storage.

  Attributes:
    storage: the storage.
    offset: its first element.
    shape: its shape.
    strides: steps between elements, in elements.
  """

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def _rebuild(storage, offset, size, stride, *_) -> Tensor:
  """Stands in for `torch._utils._rebuild_tensor_v2`."""
  return Tensor(storage, offset, tuple(size), tuple(stride))


class _Unpickler(pickle.Unpickler):
  """Unpickles dictionaries of tensors and nothing else."""

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) == ("collections", "OrderedDict"):
      return collections.OrderedDict
    if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
      return _rebuild
    if (module, name) == ("torch._utils", "_rebuild_parameter"):
      return lambda data, *_: data
    if module == "torch" and name in _STORAGES:
      return _StorageType(_STORAGES[name])
    raise pickle.UnpicklingError(f"it asks for {module}.{name}")

  def persistent_load(self, pid: Any) -> _Storage:
    kind, storage_type, key, _, _ = pid
    if kind != "storage" or not isinstance(storage_type, _StorageType):
      raise pickle.UnpicklingError(f"it holds a {kind!r}")
    return _Storage(key, storage_type.dtype)


class TorchFile:
  """The tensors of one file by name; each is read when asked for."""

  def __init__(self, path: pathlib.Path):
    """Reads what the file holds.

    Args:
      path: the file.

    Raises:
      UserError: it is no such archive, is damaged, or holds more than tensors.
    """
    self.path = path
    try:
      self._archive = zipfile.ZipFile(path)
      names = self._archive.namelist()
      pickles = [n for n in names if n.endswith("/data.pkl")]
      if len(pickles) != 1:
        raise ValueError("it holds no data.pkl")
      self._folder = pickles[0].removesuffix("data.pkl")
      order = self._folder + "byteorder"
      if order in names and self._archive.read(order) != b"little":
        raise ValueError("it is big-endian")
      content = _Unpickler(io.BytesIO(self._archive.read(pickles[0]))).load()
    except Exception as e:  # a damaged pickle raises anything
      raise self._damaged(e) from e
    if not isinstance(content, dict):
      raise self._damaged("it holds no dictionary of tensors")
    self.tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)}

  def read(self, name: str) -> np.ndarray:
    """Reads one tensor in its stored dtype.

    Raises:
      UserError: its storage is missing or damaged.
    """
    tensor = self.tensors[name]
    try:
      flat = self._storage(tensor.storage)
      steps = [n * flat.itemsize for n in tensor.strides]
      last = tensor.offset + sum(
        (n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True)
      )
      if min(tensor.shape, default=1) > 0 and last >= flat.size:
        raise ValueError(f"its storage holds only {flat.size} elements")
      view = np.lib.stride_tricks.as_strided(
        flat[tensor.offset :], tensor.shape, steps, writeable=False
      )
    except Exception as e:  # zipfile and zlib raise many kinds
      raise self._damaged(f"{name}: {e}") from e
    return np.ascontiguousarray(view)

  def _storage(self, storage: _Storage) -> np.ndarray:
    data = self._archive.read(f"{self._folder}data/{storage.key}")
    return np.frombuffer(data, storage.dtype)

  def _damaged(self, reason: Any) -> errors.UserError:
    return errors.UserError(
      f"{self.path} cannot be read as a PyTorch checkpoint: {reason}. Get it anew, or"
      " save it as safetensors (transformers: model.save_pretrained(DIR))."
    )

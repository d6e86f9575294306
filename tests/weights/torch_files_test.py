"""`pytorch_model.bin`: its tensors come back, and nothing in it is run."""

import io
import pickle
import sys
import types
import zipfile

import ml_dtypes
import numpy as np
import pytest
import tiny_weights
from tiny_weights import FLAN, tensors

from t5tune.errors import UserError
from t5tune.weights import huggingface, torch_files

KINDS = {
  "float32": "FloatStorage",
  "float16": "HalfStorage",
  "bfloat16": "BFloat16Storage",
  "int64": "LongStorage",
}


@pytest.fixture
def torch(monkeypatch):
  """Modules that bear the names which torch's pickles ask for."""
  top, inside = types.ModuleType("torch"), types.ModuleType("torch._utils")
  for kind in KINDS.values():
    setattr(top, kind, type(kind, (), {"__module__": "torch"}))

  def _rebuild_tensor_v2(*_):
    raise AssertionError("only the file's reader rebuilds tensors")

  _rebuild_tensor_v2.__module__ = "torch._utils"
  _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
  inside._rebuild_tensor_v2 = _rebuild_tensor_v2
  monkeypatch.setitem(sys.modules, "torch", top)
  monkeypatch.setitem(sys.modules, "torch._utils", inside)
  return types.SimpleNamespace(top=top, rebuild=_rebuild_tensor_v2)


class Described:
  """A tensor as torch pickles it: a storage, an offset, a shape and strides."""

  def __init__(self, torch, key, value, offset=0):
    self.torch, self.key, self.value, self.offset = torch, key, value, offset

  def __reduce__(self):
    value = self.value
    storage = Storage(getattr(self.torch.top, KINDS[value.dtype.name]), self.key)
    strides = tuple(n // value.itemsize for n in value.strides)
    return self.torch.rebuild, (storage, self.offset, value.shape, strides, False, {})


class Storage:
  def __init__(self, kind, key):
    self.kind, self.key = kind, key


class Pickler(pickle.Pickler):
  def persistent_id(self, thing):
    if isinstance(thing, Storage):
      return ("storage", thing.kind, thing.key, "cpu", 0)
    return None


def write_bin(path, torch, made, more=None, storages=None) -> None:
  """Writes tensors as torch.save does, each in a storage of its own."""
  content = {n: Described(torch, str(i), v) for i, (n, v) in enumerate(made.items())}
  pickled = io.BytesIO()
  Pickler(pickled, protocol=2).dump({**content, **(more or {})})
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("archive/data.pkl", pickled.getvalue())
    archive.writestr("archive/byteorder", "little")
    for i, value in enumerate(made.values()):
      base = value if value.base is None else value.base
      archive.writestr(f"archive/data/{i}", np.ascontiguousarray(base).tobytes())
    for key, data in (storages or {}).items():
      archive.writestr(f"archive/data/{key}", data)


def test_tensors_of_every_dtype_and_layout(tmp_path, torch):
  rng = np.random.default_rng(0)
  made = {
    "plain": rng.normal(size=(3, 4)).astype(np.float32),
    "half": rng.normal(size=5).astype(np.float16),
    "brain": rng.normal(size=(2, 2)).astype(ml_dtypes.bfloat16),
    "whole": np.arange(6),
    "turned": rng.normal(size=(4, 3)).astype(np.float32).copy().T,
    "one": np.float32(3.0).reshape(()).copy(),
  }
  base = np.arange(10, dtype=np.float32)
  part = {"part": Described(torch, "shared", base[:4].reshape(2, 2), offset=3)}
  file = tmp_path / "x.bin"
  write_bin(file, torch, made, part, {"shared": base.tobytes()})
  opened = torch_files.TorchFile(file)
  for name, value in made.items():
    assert opened.tensors[name].shape == value.shape
    found = opened.read(name)
    assert found.dtype == value.dtype
    np.testing.assert_array_equal(found, value)
  np.testing.assert_array_equal(opened.read("part"), base[3:7].reshape(2, 2))


def test_a_checkpoint(tmp_path, torch):
  made = tensors(FLAN)
  folder = tmp_path / "hf"
  tiny_weights.write_hf(folder, made)
  (folder / "model.safetensors").unlink()
  theirs = tiny_weights.under_hf_names(made)
  theirs["encoder.embed_tokens.weight"] = theirs["shared.weight"]
  write_bin(folder / "pytorch_model.bin", torch, theirs)
  opened = huggingface.open_directory(folder)
  tiny_weights.assert_equal(tiny_weights.read_all(opened), made)


class Evil:
  def __reduce__(self):
    return print, ("run!",)


def test_nothing_else_is_unpickled(tmp_path, torch, capsys):
  file = tmp_path / "x.bin"
  write_bin(file, torch, {"a": np.ones(2, np.float32)}, {"b": Evil()})
  with pytest.raises(UserError, match="it asks for .*print"):
    torch_files.TorchFile(file)
  assert capsys.readouterr().out == ""


def test_damage_is_named(tmp_path, torch):
  file = tmp_path / "x.bin"
  write_bin(file, torch, {"a": np.ones(200, np.float32)})
  whole = file.read_bytes()
  for spoilt in (b"", b"no archive", whole[:-30]):
    file.write_bytes(spoilt)
    with pytest.raises(UserError, match="x.bin cannot be read as a PyTorch"):
      torch_files.TorchFile(file)
  flipped = bytearray(whole)
  flipped[whole.index(np.ones(200, np.float32).tobytes()) + 9] ^= 1
  file.write_bytes(flipped)
  with pytest.raises(UserError, match="a: Bad CRC"):
    torch_files.TorchFile(file).read("a")
  long = {"a": Described(torch, "0", np.ones(300, np.float32))}
  write_bin(file, torch, {"b": np.ones(200, np.float32)}, long)
  with pytest.raises(UserError, match="a: its storage holds only 200 elements"):
    torch_files.TorchFile(file).read("a")

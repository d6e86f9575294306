"""Reads Hugging Face checkpoints: a directory, or what the Hub holds under an id."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import safetensors

from t5tune import errors
from t5tune.weights import hf_config, names, torch_files, weights

_SMALL = ("config.json", "generation_config.json", "spiece.model", "tokenizer*.json")
_SAFETENSORS = ("model*.safetensors", "model.safetensors.index.json")
_TORCH = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
# Copies of `shared.weight`, and a parameter that early files hold and no T5 uses.
_IGNORED = {
  "encoder.embed_tokens.weight",
  "decoder.embed_tokens.weight",
  "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
}
_LM_HEAD = "lm_head.weight"


def is_directory(path: pathlib.Path) -> bool:
  """Whether a directory looks like a Hugging Face checkpoint."""
  return (path / "config.json").is_file()


def download(name: str, with_weights: bool) -> pathlib.Path:
  """Fetches a checkpoint from the Hub into Hugging Face's own cache.

  Args:
    name: the id, such as 'google/flan-t5-base'.
    with_weights: whether to fetch weights, or only config and tokenizer.

  Returns:
    The local directory.

  Raises:
    UserError: there is no such checkpoint, or no way to it.
  """
  import huggingface_hub

  def fetch(*patterns):
    return pathlib.Path(
      huggingface_hub.snapshot_download(name, allow_patterns=list(patterns))
    )

  try:
    path = fetch(*_SMALL)
    if with_weights:
      path = fetch(*_SMALL, *_SAFETENSORS)
      if not _weight_files(path):
        path = fetch(*_SMALL, *_TORCH)
    return path
  except Exception as e:  # the Hub's client and the network raise many kinds
    reason = (str(e).strip().splitlines() or [type(e).__name__])[0].rstrip(".")
    raise errors.UserError(
      f"{name!r} cannot be fetched from Hugging Face: {reason}. Without the network,"
      " put its config.json, spiece.model and model.safetensors into a directory and"
      " name that."
    ) from e


def open_directory(path: pathlib.Path) -> weights.Weights:
  """Opens a local checkpoint; tensors are read when asked for.

  Args:
    path: a directory with config.json and model.safetensors, its shards with their
      index, or pytorch_model.bin.

  Raises:
    UserError: it is no T5, is incomplete or damaged.
  """
  values = hf_config.read(path / "config.json")
  tensors = _open_tensors(path)
  tied = _is_tied(tensors)
  config = hf_config.architecture(path / "config.json", values, tied)
  known = {names.hugging_face(n)[0]: n for n in names.shapes(config)}
  ignored = _IGNORED | ({_LM_HEAD} if tied else set())
  shapes = {
    known.get(theirs, theirs): _oriented(known.get(theirs), tensor.shape)
    for theirs, tensor in tensors.items()
    if theirs not in ignored
  }

  def read(name: str) -> np.ndarray:
    theirs, transposed = names.hugging_face(name)
    value = tensors[theirs].read()
    return value.T if transposed else value

  vocabulary = path / "spiece.model"
  return weights.Weights(
    origin=str(path),
    config=config,
    shapes=shapes,
    read=read,
    vocabulary=vocabulary if vocabulary.is_file() else None,
  )


@dataclasses.dataclass(frozen=True)
class _Tensor:
  shape: tuple[int, ...]
  read: Callable[[], np.ndarray]


def _oriented(name: str | None, shape: tuple[int, ...]) -> tuple[int, ...]:
  return shape[::-1] if name and names.hugging_face(name)[1] else shape


def _is_tied(tensors: Mapping[str, _Tensor]) -> bool:
  """Whether the output layer is the embedding: absent, or equal to it."""
  if _LM_HEAD not in tensors:
    return True
  shared = tensors.get("shared.weight")
  if shared is None or shared.shape != tensors[_LM_HEAD].shape:
    return False
  return bool(np.array_equal(shared.read(), tensors[_LM_HEAD].read()))


def _weight_files(path: pathlib.Path) -> dict[str, list[pathlib.Path]]:
  """Returns the files of weights, of the first kind that is there, by kind."""
  for kind, name in (
    ("safetensors", "model.safetensors"),
    ("torch", "pytorch_model.bin"),
  ):
    if (path / name).is_file():
      return {kind: [path / name]}
    index = path / f"{name}.index.json"
    if index.is_file():
      return {kind: _shards(index)}
  return {}


def _shards(index: pathlib.Path) -> list[pathlib.Path]:
  try:
    files = sorted(
      set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    )
    paths = [index.parent / file for file in files]
  except (OSError, ValueError, KeyError, AttributeError, TypeError) as e:
    raise errors.UserError(
      f"{index} is not an index of shards ({type(e).__name__}: {e}). Get it anew."
    ) from e
  for path in paths:
    if not path.is_file():
      raise errors.UserError(
        f"{path} is missing, one of {len(files)} shards that"
        f" {index.name} names. Put it there."
      )
  return paths


def _open_tensors(path: pathlib.Path) -> dict[str, _Tensor]:
  found = _weight_files(path)
  if not found:
    raise errors.UserError(
      f"{path} holds no weights: there is no model.safetensors,"
      " model.safetensors.index.json or pytorch_model.bin. It holds"
      f" {', '.join(sorted(p.name for p in path.iterdir())) or 'nothing'}."
    )
  tensors: dict[str, _Tensor] = {}
  for kind, files in found.items():
    for file in files:
      tensors |= _safetensors(file) if kind == "safetensors" else _torch(file)
  return tensors


def _torch(file: pathlib.Path) -> dict[str, _Tensor]:
  content = torch_files.TorchFile(file)
  return {
    name: _Tensor(
      tensor.shape,
      lambda name=name: weights.floating(f"{file}: {name}", content.read(name)),
    )
    for name, tensor in content.tensors.items()
  }


def _safetensors(file: pathlib.Path) -> dict[str, _Tensor]:
  def read(name: str) -> np.ndarray:
    # Opened anew: an open file keeps every page that was read.
    with _open_safetensors(file) as content:
      try:
        value = content.get_tensor(name)
      except Exception as e:  # of a dtype that numpy lacks, such as 8 bit floats
        raise errors.UserError(f"{file}: {name} cannot be read: {e}.") from e
      return weights.floating(f"{file}: {name}", value)

  with _open_safetensors(file) as content:
    return {
      name: _Tensor(
        tuple(content.get_slice(name).get_shape()), lambda name=name: read(name)
      )
      for name in content.keys()
    }


def _open_safetensors(file: pathlib.Path) -> Any:
  try:
    return safetensors.safe_open(file, framework="np")
  except PermissionError as e:
    raise errors.UserError(f"{file} cannot be read: {e.strerror or e}.") from e
  except (safetensors.SafetensorError, OSError) as e:
    raise errors.UserError(
      f"{file} is not a whole safetensors file: {e}. Get it anew."
    ) from e

"""Writes Hugging Face checkpoints: safetensors, configs and tokenizer files."""

import json
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np

from t5tune import errors
from t5tune.weights import hf_config, names, weights

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
_SAFETENSORS_DTYPES = {"float32": "F32", "bfloat16": "BF16"}
_EXTRA_IDS = 100


def write(
  source: weights.Weights,
  folder: pathlib.Path,
  dtype: str,
  max_shard_size: int,
  progress: Callable[[int, int], None],
) -> None:
  """Writes a checkpoint that transformers 4 and 5 load, one tensor at a time.

  Args:
    source: the weights.
    folder: an empty directory.
    dtype: 'float32' or 'bfloat16'.
    max_shard_size: bytes of a file of weights; a larger tensor has its own.
    progress: told of the tensors written and their number.

  Raises:
    UserError: Hugging Face has no such architecture, or a tensor cannot be read.
    OSError: the disk is full or cannot be written.
  """
  tensors = _tensors(source)
  config = hf_config.to_json(source.config, dtype)
  if "lm_head.weight" in tensors:
    config["tie_word_embeddings"] = False
  if source.config.scales_decoder_outputs and not source.config.logits_via_embedding:
    raise errors.UserError(
      f"{source.origin}: its output layer is its own and its logits are scaled, which"
      " transformers 4 cannot load right. Convert it to t5tune's format."
    )
  write_json(folder / "config.json", config)
  write_json(
    folder / "generation_config.json",
    {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0},
  )
  if source.vocabulary:
    write_tokenizer(source.vocabulary, folder)
  shards = _shards(source, tensors, DTYPES[dtype].itemsize, max_shard_size)
  total, done = len(tensors), 0
  weight_map = {}
  for number, shard in enumerate(shards, start=1):
    name = "model.safetensors"
    if len(shards) > 1:
      name = f"model-{number:05}-of-{len(shards):05}.safetensors"
    weight_map |= dict.fromkeys(shard, name)
    for _ in _write_safetensors(folder / name, shard, source, tensors, dtype):
      done += 1
      progress(done, total)
  if len(shards) > 1:
    size = sum(_size(source, n, DTYPES[dtype].itemsize) for n in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    write_json(folder / "model.safetensors.index.json", index)


def _tensors(source: weights.Weights) -> dict[str, str]:
  """Returns Hugging Face's names, each with T5X's, stack by stack."""
  stacks = names.stacks(source.config).values()
  found = {names.hugging_face(n)[0]: n for members in stacks for n in members}
  config = source.config
  # A tied model whose logits are not scaled is known to transformers 5 only; with
  # an output layer of its own (a copy) 4 loads it right, too.
  if config.logits_via_embedding and not config.scales_decoder_outputs:
    found["lm_head.weight"] = names.EMBEDDING
  return found


def _size(source: weights.Weights, name: str, itemsize: int) -> int:
  return int(np.prod(source.shapes[name])) * itemsize


def _shards(
  source: weights.Weights, tensors: dict[str, str], itemsize: int, limit: int
) -> list[list[str]]:
  """Returns the tensors of each file, in order."""
  shards: list[list[str]] = [[]]
  filled = 0
  for theirs, name in tensors.items():
    size = _size(source, name, itemsize)
    if shards[-1] and filled + size > limit:
      shards.append([])
      filled = 0
    shards[-1].append(theirs)
    filled += size
  return shards


def _write_safetensors(
  path: pathlib.Path,
  shard: list[str],
  source: weights.Weights,
  tensors: dict[str, str],
  dtype: str,
) -> Iterator[str]:
  """Writes one file, yielding the name of each tensor written.

  The library's own writer wants all tensors of a file in memory at once; the format
  is a length, a JSON header and the raw tensors
  (https://github.com/huggingface/safetensors#format).
  """
  header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
  offset = 0
  for theirs in shard:
    name = tensors[theirs]
    shape = source.shapes[name]
    transposed = names.hugging_face(name)[1]
    end = offset + _size(source, name, DTYPES[dtype].itemsize)
    header[theirs] = {
      "dtype": _SAFETENSORS_DTYPES[dtype],
      "shape": list(shape[::-1] if transposed else shape),
      "data_offsets": [offset, end],
    }
    offset = end
  text = json.dumps(header, separators=(",", ":")).encode()
  text += b" " * (-len(text) % 8)
  with path.open("wb") as file:
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for theirs in shard:
      value = source.tensor(tensors[theirs])
      value = value.T if names.hugging_face(tensors[theirs])[1] else value
      file.write(np.ascontiguousarray(value, DTYPES[dtype]).view(np.uint8).data)
      yield theirs


def write_tokenizer(vocabulary: pathlib.Path, folder: pathlib.Path) -> None:
  """Writes the files from which transformers makes its T5 tokenizer.

  Args:
    vocabulary: the SentencePiece model, copied as it is.
    folder: where to write.
  """
  shutil.copyfile(vocabulary, folder / "spiece.model")
  extra = [f"<extra_id_{i}>" for i in range(_EXTRA_IDS)]
  special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
  write_json(
    folder / "special_tokens_map.json",
    {"additional_special_tokens": extra, **special},
  )
  write_json(
    folder / "tokenizer_config.json",
    {
      "additional_special_tokens": extra,
      "extra_ids": _EXTRA_IDS,
      "legacy": True,
      "model_max_length": 512,
      **special,
      "tokenizer_class": "T5Tokenizer",
    },
  )


def write_json(path: pathlib.Path, values: dict[str, Any]) -> None:
  """Writes JSON as Hugging Face's libraries do."""
  path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def parse_size(text: str) -> int:
  """Returns the bytes that a size such as '2GB' or '500MB' means.

  Raises:
    UserError: it is no size.
  """
  units = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
  number, unit = text[:-2], text[-2:].upper()
  if unit not in units or not number.isdecimal() or int(number) < 1:
    raise errors.UserError(
      f"--max_shard_size={text}: write a number of KB, MB or GB, such as 2GB."
    )
  return int(number) * units[unit]

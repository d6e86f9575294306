"""Adapters as PEFT keeps them: LoRA's factors in files of their own.

    adapter_config.json         rank, alpha, targets, and the base they belong to
    adapter_model.safetensors   lora_A (r, in) and lora_B (out, r) of every kernel

PEFT's names are Hugging Face's of the kernels with a prefix and a suffix
(`peft.utils.save_and_load`); its `alpha / r` is the scale here, too.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from t5tune import errors
from t5tune.models import lora, t5
from t5tune.weights import adapters, hf_export, names, weights

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_FACTORS = {"lora_a": "lora_A", "lora_b": "lora_B"}
# What would make an adapter something else than `alpha / r * A @ B` beside a kernel.
_PLAIN = {
  "use_dora": (False, None),
  "bias": ("none",),
  "modules_to_save": (None, []),
  "rank_pattern": ({}, None),
  "alpha_pattern": ({}, None),
  "fan_in_fan_out": (False,),
  "alora_invocation_tokens": (None,),
  "use_qalora": (False, None),
  "use_bdlora": (False, None),
  "layer_replication": (None,),
  # Others change the base before they begin.
  "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
}
_CARD = """\
---
library_name: peft
{base}tags:
- lora
- t5
- t5tune
---

# {title}

LoRA of rank {rank}, alpha {alpha:g}, on {targets} of a T5; written by t5tune (step
{step:,}).

```python
from peft import PeftModel
from transformers import T5ForConditionalGeneration

base = T5ForConditionalGeneration.from_pretrained({init!r})
model = PeftModel.from_pretrained(base, {title!r})
```
"""


def is_directory(path: pathlib.Path) -> bool:
  """Whether a directory looks like an adapter of PEFT."""
  return (path / _CONFIG).is_file()


def write(
  adapter: adapters.Adapter,
  folder: pathlib.Path,
  dtype: str,
  progress: Callable[[int, int], None],
) -> None:
  """Writes an adapter that PEFT loads.

  Args:
    adapter: the factors of a run.
    folder: an empty directory, named as the adapter.
    dtype: 'float32' or 'bfloat16'.
    progress: told of the tensors written and their number.

  Raises:
    UserError: a factor cannot be read.
    OSError: the disk is full or cannot be written.
  """
  architecture = adapter.architecture
  stacks = names.stacks(architecture)
  kernels = adapter.kernels(architecture)
  total = sum(len(stacks[kernel]) for kernel in kernels) * len(lora.FACTORS)
  tensors: dict[str, np.ndarray] = {}
  for kernel in kernels:
    for factor in lora.FACTORS:
      value = adapter.read(kernel, factor).astype(hf_export.DTYPES[dtype])
      for row, name in enumerate(stacks[kernel]):
        tensors[_peft_name(name, factor)] = np.ascontiguousarray(value[row].T)
      progress(len(tensors), total)
  safetensors.numpy.save_file(tensors, folder / _WEIGHTS, {"format": "pt"})
  config, init = adapter.config, adapter.init
  base = None if init == adapters.SCRATCH or "://" in init else init
  targets = sorted(
    {names.hugging_face(stacks[k][0])[0].split(".")[-2] for k in kernels}
  )
  values = {
    "alpha_pattern": {},
    "base_model_name_or_path": base,
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "lora_alpha": config.scale * config.rank,
    "lora_dropout": config.dropout_rate,
    "modules_to_save": None,
    "peft_type": "LORA",
    "r": config.rank,
    "rank_pattern": {},
    "target_modules": targets,
    "task_type": "SEQ_2_SEQ_LM",
    "use_dora": False,
    "use_rslora": False,
  }
  hf_export.write_json(folder / _CONFIG, values)
  if adapter.vocabulary:
    hf_export.write_tokenizer(adapter.vocabulary, folder)
  card = _CARD.format(
    base=f"base_model: {base}\n" if base and base.count("/") == 1 else "",
    title=folder.name,
    rank=config.rank,
    alpha=values["lora_alpha"],
    targets=", ".join(targets),
    step=adapter.step,
    init=base or "BASE, as python -m t5tune.convert writes it --to hf",
  )
  (folder / "README.md").write_text(card, encoding="utf-8")


def _peft_name(name: str, factor: str) -> str:
  """Returns PEFT's name of a factor of the kernel that T5X calls `name`."""
  kernel = names.hugging_face(name)[0].removesuffix(".weight")
  return f"base_model.model.{kernel}.{_FACTORS[factor]}.weight"


def base_name(path: pathlib.Path) -> str:
  """Returns the directory or Hugging Face id of an adapter's base.

  Raises:
    UserError: its adapter_config.json is damaged, names none or no plain LoRA.
  """
  return _config(path)["base_model_name_or_path"]


def open_directory(
  path: pathlib.Path, open_base: Callable[[str], weights.Weights | None]
) -> weights.Weights:
  """Opens an adapter merged with its base; tensors are read when asked for.

  Args:
    path: a directory with adapter_config.json and adapter_model.safetensors.
    open_base: opens the base that the former names.

  Raises:
    UserError: it is damaged, more than LoRA of the kernels of T5's layers, or its base
      cannot be opened.
  """
  values = _config(path)
  init = values["base_model_name_or_path"]
  try:
    base = open_base(init)
  except errors.UserError as e:
    raise adapters.without_base(path, init, e) from e
  if base is None:
    raise errors.UserError(f"{path / _CONFIG}: its base is no weights: {init!r}.")
  tensors = _tensors(path / _WEIGHTS)
  config = _lora_config(path, values, tensors, base.config)
  stacks = names.stacks(base.config)

  def read(kernel: str, factor: str) -> np.ndarray:
    rows, columns = base.shapes[stacks[kernel][0]]
    rank = config.rank
    shape = (rows, rank) if factor == "lora_a" else (rank, columns)
    found = []
    for name in stacks[kernel]:
      # A layer that has no factors is the base's.
      value = tensors.get(_peft_name(name, factor), np.zeros(shape[::-1], np.float32))
      if value.shape != shape[::-1]:
        raise errors.UserError(
          f"{path / _WEIGHTS}: {_peft_name(name, factor)} has shape {value.shape},"
          f" where its base {base.origin} and r = {rank} want {shape[::-1]}."
        )
      found.append(value.T.astype(np.float32))
    return np.stack(found)

  vocabulary = path / "spiece.model"
  adapter = adapters.Adapter(
    origin=str(path),
    config=config,
    read=read,
    init=init,
    vocabulary=vocabulary if vocabulary.is_file() else None,
  )
  return adapter.merged(base)


def _config(path: pathlib.Path) -> dict[str, Any]:
  file = path / _CONFIG
  try:
    values = json.loads(file.read_text(encoding="utf-8"))
    values = {"base_model_name_or_path": None, **values}
    scale_of = (values["r"] > 0, values["lora_alpha"] > 0)
  except (OSError, ValueError, KeyError, TypeError) as e:
    raise errors.UserError(
      f"{file} is not a LoRA adapter's configuration: {type(e).__name__}: {e}."
    ) from e
  if values.get("peft_type") != "LORA" or not all(scale_of):
    raise errors.UserError(
      f"{file}: peft_type is {values.get('peft_type')!r}, r {values['r']!r}; t5tune reads"
      " adapters of LoRA ('LORA')."
    )
  for name, plain in _PLAIN.items():
    if name in values and values[name] not in plain:
      raise errors.UserError(
        f"{file}: {name} is {values[name]!r}, which is more than plain LoRA. Merge it"
        " with PEFT (merge_and_unload, save_pretrained) and name the result."
      )
  if not values["base_model_name_or_path"]:
    raise errors.UserError(
      f"{file}: base_model_name_or_path is empty. Write there the directory or Hugging"
      " Face id of the weights that the adapter was trained on."
    )
  return values


def _tensors(file: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    found = safetensors.numpy.load_file(file)
  except (OSError, safetensors.SafetensorError) as e:
    raise errors.UserError(
      f"{file} cannot be read: {e}. t5tune reads adapters as PEFT saves them by"
      " default, in safetensors."
    ) from e
  return {name: weights.floating(f"{file}: {name}", x) for name, x in found.items()}


def _lora_config(
  path: pathlib.Path,
  values: dict[str, Any],
  tensors: dict[str, np.ndarray],
  architecture: t5.T5Config,
) -> lora.LoraConfig:
  """Returns rank, scale and targets of an adapter; targets are what it has factors of."""
  kernels = {
    _peft_name(name, factor): name.split("/")[-2]
    for name in names.shapes(architecture)
    if name.endswith("/kernel") and name != names.LOGITS
    for factor in lora.FACTORS
  }
  if strange := sorted(tensors.keys() - kernels.keys()):
    raise errors.UserError(
      f"{path / _WEIGHTS}: {strange[0]} is no factor of a kernel of this T5's layers."
      " Merge the adapter with PEFT (merge_and_unload) and name the result."
    )
  targets = tuple(sorted({kernels[name] for name in tensors}))
  rank, alpha = values["r"], values["lora_alpha"]
  if values.get("use_rslora"):  # alpha / sqrt(r) instead of alpha / r
    alpha *= rank**0.5
  return lora.LoraConfig(rank=rank, alpha=alpha, targets=targets)

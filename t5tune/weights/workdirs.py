"""Reads and writes the weights of our own checkpoints, a parameter at a time."""

import dataclasses
import functools
import hashlib
import json
import pathlib
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from t5tune import errors
from t5tune.models import lora, t5
from t5tune.training import checkpoint_files, checkpoints, workdir
from t5tune.weights import adapters, names, weights


def is_workdir(path: pathlib.Path) -> bool:
  """Whether a path is a work directory, or a checkpoint inside one."""
  return (root(path) / "run.json").is_file()


def root(path: pathlib.Path) -> pathlib.Path:
  """Returns the work directory of a path that is one or a checkpoint inside it."""
  inside = path.parent.name == "checkpoints" and path.name.isdigit()
  return path.parent.parent if inside else path


def open_workdir(
  path: pathlib.Path, open_base: Callable[[str], weights.Weights | None]
) -> weights.Weights:
  """Opens the weights of a work directory; tensors are read when asked for.

  Args:
    path: a work directory, which means its latest checkpoint, or one of its
      `checkpoints/<step>`.
    open_base: opens what INIT names; for a run with LoRA, whose factors are merged
      with it.

  Raises:
    UserError: it has no checkpoint, or is damaged, or its base has changed or is gone.
  """
  folder, step = root(path), _step(path)
  config = architecture(folder)
  if config.lora is not None:
    adapter = open_adapter(path)
    try:
      base = open_base(adapter.init)
    except errors.UserError as e:
      raise adapters.without_base(path, adapter.init, e) from e
    return adapter.merged(base)
  read_stack = _stack_reader(folder, step)

  def read(name: str) -> np.ndarray:
    stack, row = names.stacked(name)
    return read_stack(stack) if row is None else read_stack(stack)[row]

  return weights.Weights(
    origin=str(folder / "checkpoints" / str(step)),
    config=config,
    shapes=names.shapes(config),
    read=read,
    vocabulary=_vocabulary(folder),
    step=step,
  )


def open_adapter(path: pathlib.Path) -> adapters.Adapter:
  """Opens the factors of a run with LoRA; they are read when asked for.

  Args:
    path: as for `open_workdir`.

  Raises:
    UserError: it has no checkpoint, none of LoRA's, or is damaged.
  """
  folder, step = root(path), _step(path)
  config = architecture(folder)
  if config.lora is None:
    raise errors.UserError(
      f"{path} was trained without LoRA (LORA_RANK = 0): all its parameters changed,"
      " so it is no adapter. Convert it --to hf."
    )
  origin = folder / "checkpoints" / str(step)
  meta = checkpoint_files.read_meta(origin)
  if not meta or "base" not in meta:
    raise errors.UserError(f"checkpoint {origin} is damaged: its base is not recorded.")
  read_stack = _stack_reader(folder, step)
  return adapters.Adapter(
    origin=str(origin),
    config=config.lora,
    read=lambda name, factor: read_stack(f"{name.rpartition('/')[0]}/{factor}"),
    architecture=dataclasses.replace(config, lora=None),
    vocabulary=_vocabulary(folder),
    step=step,
    **meta["base"],
  )


def _step(path: pathlib.Path) -> int:
  """Returns the step of the checkpoint that a path means."""
  saved = checkpoints.Checkpoints(root(path) / "checkpoints", read_only=True)
  step = saved.latest() if path == root(path) else int(path.name)
  if step is None or step not in saved.steps():
    raise errors.UserError(f"{path}: there is no such checkpoint.")
  return step


def _stack_reader(folder: pathlib.Path, step: int) -> Callable[[str], np.ndarray]:
  """Returns a function that reads single parameters by their names here."""
  saved = checkpoints.Checkpoints(folder / "checkpoints", read_only=True)
  read_param = saved.param_reader(step)

  @functools.lru_cache(maxsize=1)  # the rows of a stack are asked for in turn
  def read_stack(name: str) -> np.ndarray:
    return read_param(tuple(name.split("/")))

  return read_stack


def _vocabulary(folder: pathlib.Path) -> pathlib.Path | None:
  kept = workdir.vocabulary(folder)
  return kept if kept.is_file() else None


def architecture(folder: pathlib.Path) -> t5.T5Config:
  """Returns the architecture that a work directory records, LoRA included.

  Raises:
    UserError: its run.json is damaged.
  """
  values = workdir.read_identity(folder / "run.json").get("model")
  tuples = lambda d: {k: tuple(v) if type(v) is list else v for k, v in d.items()}  # noqa: E731
  try:
    made = tuples(values)
    if made.get("lora"):
      made["lora"] = lora.LoraConfig(**tuples(made["lora"]))
    return t5.T5Config(**made)
  except (TypeError, AttributeError) as e:
    raise errors.UserError(f"{folder}/run.json is damaged: model: {e}.") from e


def write(
  source: weights.Weights,
  folder: pathlib.Path,
  progress: Callable[[int, int], None],
  recorded: Mapping[str, Any] = types.MappingProxyType({}),
) -> None:
  """Writes a work directory that holds the weights as its only checkpoint.

  `INIT`, `convert` and `--eval_only` take it as they take one that training left.

  Args:
    source: the weights; without a vocabulary `--eval_only` must be given one.
    folder: the new directory.
    progress: told of the tensors read and their number.
    recorded: what else run.json is to say of the run.

  Raises:
    UserError: a tensor cannot be read, or the disk is full.
  """
  params = source.nested(lambda name, value: jax.numpy.asarray(value), progress)
  checkpoints.write_params(folder / "checkpoints", source.step, params)
  identity = {"model": workdir.model_identity(source.config), **recorded}
  if source.vocabulary:
    content = source.vocabulary.read_bytes()
    workdir.write_atomically(workdir.vocabulary(folder), content)
    identity["VOCABULARY"] = hashlib.sha256(content).hexdigest()
  text = json.dumps(identity, indent=1) + "\n"
  workdir.write_atomically(folder / "run.json", text)

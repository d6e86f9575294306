"""Reads and writes the weights of our own checkpoints, a parameter at a time."""

import functools
import hashlib
import json
import pathlib
from collections.abc import Callable

import jax
import numpy as np

from t5tune import errors
from t5tune.models import t5
from t5tune.training import checkpoints, workdir
from t5tune.weights import names, weights


def is_workdir(path: pathlib.Path) -> bool:
  """Whether a path is a work directory, or a checkpoint inside one."""
  return (root(path) / "run.json").is_file()


def root(path: pathlib.Path) -> pathlib.Path:
  """Returns the work directory of a path that is one or a checkpoint inside it."""
  inside = path.parent.name == "checkpoints" and path.name.isdigit()
  return path.parent.parent if inside else path


def open_workdir(path: pathlib.Path) -> weights.Weights:
  """Opens the weights of a work directory; tensors are read when asked for.

  Args:
    path: a work directory, which means its latest checkpoint, or one of its
      `checkpoints/<step>`.

  Raises:
    UserError: it has no checkpoint, or is damaged.
  """
  folder = root(path)
  saved = checkpoints.Checkpoints(folder / "checkpoints", "", read_only=True)
  step = saved.latest() if path == folder else int(path.name)
  if step is None or step not in saved.steps():
    raise errors.UserError(f"{path}: there is no such checkpoint.")
  read_param = saved.param_reader(step)

  @functools.lru_cache(maxsize=1)  # the rows of a stack are asked for in turn
  def read_stack(name: str) -> np.ndarray:
    return read_param(tuple(name.split("/")))

  def read(name: str) -> np.ndarray:
    stack, row = names.stacked(name)
    return read_stack(stack) if row is None else read_stack(stack)[row]

  config = architecture(folder)
  vocabulary = workdir.vocabulary(folder)
  return weights.Weights(
    origin=str(folder / "checkpoints" / str(step)),
    config=config,
    shapes=names.shapes(config),
    read=read,
    vocabulary=vocabulary if vocabulary.is_file() else None,
    step=step,
  )


def architecture(folder: pathlib.Path) -> t5.T5Config:
  """Returns the architecture that a work directory records.

  Raises:
    UserError: its run.json is damaged.
  """
  values = workdir.read_identity(folder / "run.json").get("model")
  try:
    lists = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return t5.T5Config(**lists)
  except (TypeError, AttributeError) as e:
    raise errors.UserError(f"{folder}/run.json is damaged: model: {e}.") from e


def write(
  source: weights.Weights, folder: pathlib.Path, progress: Callable[[int, int], None]
) -> None:
  """Writes a work directory that holds the weights as its only checkpoint.

  `INIT`, `convert` and `--eval_only` take it as they take one that training left.

  Args:
    source: the weights; without a vocabulary `--eval_only` must be given one.
    folder: the new directory.
    progress: told of the tensors read and their number.

  Raises:
    UserError: a tensor cannot be read, or the disk is full.
  """
  params = source.nested(lambda name, value: jax.numpy.asarray(value), progress)
  checkpoints.write_params(folder / "checkpoints", source.step, params)
  identity = {"model": workdir.model_identity(source.config)}
  if source.vocabulary:
    content = source.vocabulary.read_bytes()
    workdir.write_atomically(workdir.vocabulary(folder), content)
    identity["VOCABULARY"] = hashlib.sha256(content).hexdigest()
  text = json.dumps(identity, indent=1) + "\n"
  workdir.write_atomically(folder / "run.json", text)

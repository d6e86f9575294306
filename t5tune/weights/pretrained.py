"""Where a run's initial weights and vocabulary come from (`INIT`)."""

import dataclasses
import os
import pathlib
import re
from typing import Any

import jax
from jax.sharding import Mesh

from t5tune import errors
from t5tune.models import t5
from t5tune.training import parameter_groups
from t5tune.training.train_state import Model
from t5tune.weights import adapters, huggingface, names, peft, t5x, weights, workdirs

SCRATCH = adapters.SCRATCH
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def open_weights(
  init: str, label: str = "INIT", base: str | None = None
) -> weights.Weights | None:
  """Opens the initial weights of a run; tensors are read when asked for.

  Of a run with LoRA, or an adapter of PEFT, they are the factors merged with what
  these were trained on.

  Args:
    init: 'scratch', a Hugging Face id or directory, a T5X checkpoint (a directory or
      gs:// path), a work directory of t5tune or an adapter of PEFT.
    label: what the user set, for messages.
    base: where to find what factors were trained on; None for where it was then.

  Returns:
    The weights, or None for 'scratch'.

  Raises:
    UserError: they cannot be found or fetched, are damaged or no T5's.
  """
  if init == SCRATCH:
    return None
  if "://" in init:
    return t5x.open_checkpoint(init)
  path = _directory(init, label, with_weights=True)
  if not os.access(path, os.R_OK | os.X_OK):
    raise errors.UserError(f"{path} cannot be read: permission denied.")
  open_base = lambda init: open_weights(base or init, f"The base of {path}")  # noqa: E731
  if workdirs.is_workdir(path):
    return workdirs.open_workdir(path, open_base)
  if peft.is_directory(path):
    return peft.open_directory(path, open_base)
  if huggingface.is_directory(path):
    return huggingface.open_directory(path)
  if t5x.is_checkpoint(str(path)):
    return t5x.open_checkpoint(str(path))
  raise errors.UserError(
    f"{path} holds no weights that are known here: no config.json (Hugging Face), no"
    " checkpoint_<step> or its content (T5X), no run.json (t5tune). It holds"
    f" {', '.join(sorted(p.name for p in path.iterdir())[:8]) or 'nothing'}."
  )


def vocabulary_path(
  init: str, label: str = "INIT", setting: str = "--gin.VOCABULARY"
) -> pathlib.Path:
  """Returns the vocabulary that lies beside the initial weights.

  Args:
    init: as for `open_weights`; of a Hugging Face id no weights are fetched.
    label: what names the weights, for errors.
    setting: what would name a vocabulary, for errors: a flag.

  Raises:
    UserError: there is none.
  """
  beside = ""
  if init != SCRATCH and "://" not in init:
    path = _directory(init, label, with_weights=False)
    path = workdirs.root(path) if workdirs.is_workdir(path) else path
    if (path / "spiece.model").is_file():
      return (path / "spiece.model").absolute()
    if peft.is_directory(path):
      return vocabulary_path(peft.base_name(path), label, setting)
    if (path / "tokenizer.json").is_file():
      beside = (
        " Its tokenizer.json cannot be used: fetch spiece.model from the same place"
        " (every T5 on Hugging Face has one) and put it beside."
      )
  if init == SCRATCH:
    raise errors.UserError(
      f"VOCABULARY is not set, and {label} = 'scratch' brings none. Name a SentencePiece model:"
      f" {setting}=FILE.model, or {setting}=mini.model for the small one that ships with"
      " t5tune."
    )
  raise errors.UserError(
    f"{setting.removeprefix('--gin.')} is not set, and {label} = {init!r} has no"
    f" spiece.model beside its weights.{beside} Or name the SentencePiece model that it"
    f" was trained with: {setting}=FILE.model."
  )


def _directory(init: str, label: str, with_weights: bool) -> pathlib.Path:
  """Returns the local directory that is meant, fetched if need be."""
  path = pathlib.Path(init).expanduser()
  if init and path.is_dir():  # '' would be the directory one stands in
    return path
  if init and path.exists():
    raise errors.UserError(
      f"{label} = {init!r} is a file; name the directory that holds the checkpoint."
    )
  if not _HUB_ID.fullmatch(init):
    raise errors.UserError(
      f"{label} = {init!r}: there is no such directory. Name one with weights, a Hugging"
      " Face id such as google/flan-t5-base, or 'scratch' for random weights."
    )
  return huggingface.download(init, with_weights)


def architecture(
  source: weights.Weights, config: t5.T5Config
) -> tuple[t5.T5Config, list[str]]:
  """Returns the architecture of a run that starts from weights.

  What a config.json or run.json describes counts; what could only be told from
  shapes is checked against the run's own. Dropout, dtype and how layers are run are
  always the run's.

  Args:
    source: the weights.
    config: the architecture that gin gives.

  Returns:
    The architecture, and where it is not gin's, lines that say so.

  Raises:
    UserError: gin's is not the checkpoint's; names a parameter and both shapes.
  """
  if source.described:
    made = run_as(source.config, config)
    return made, _differences(made, _with_rows(config, made))
  rows = source.config.vocab_size if config.vocab_size is None else config.vocab_size
  made = dataclasses.replace(config, vocab_size=rows)
  weights.check_shapes(source.origin, source.shapes, made)
  return made, []


def begin(
  init: str, config: t5.T5Config, directory: pathlib.Path
) -> tuple[weights.Weights | None, t5.T5Config, list[str]]:
  """Returns what a run starts from: a work directory's own, else what INIT names.

  Args:
    init: see `open_weights`; it need not be at hand once there is a checkpoint.
    config: the architecture that gin gives.
    directory: the work directory, or None.

  Returns:
    The weights to read (None: the directory's checkpoint, or random ones; with LoRA
    they are the base of a checkpoint, too), the architecture, and where it is not
    gin's, lines that say so.

  Raises:
    UserError: see `open_weights` and `architecture`.
  """
  if init == SCRATCH:
    return None, config, []
  saved = (p.name for p in directory.glob("checkpoints/*")) if directory else ()
  # A number alone: a first save that was cut short is no checkpoint.
  if any(name.isdigit() for name in saved) and workdirs.is_workdir(directory):
    recorded = run_as(workdirs.architecture(directory), config)
    source = None if recorded.lora is None else open_base(init, recorded, directory)
    return source, recorded, _differences(recorded, _with_rows(config, recorded))
  source = open_weights(init)
  return source, *architecture(source, config)


def open_base(
  init: str, recorded: t5.T5Config, directory: pathlib.Path
) -> weights.Weights | None:
  """Opens what the factors in a work directory's checkpoints were trained on.

  Args:
    init: see `open_weights`.
    recorded: the architecture of the run.
    directory: the work directory.

  Returns:
    The weights, or None for 'scratch'.

  Raises:
    UserError: they are gone, or have become others.
  """
  try:
    source = open_weights(init)
  except errors.UserError as e:
    raise adapters.without_base(directory, init, e) from e
  if source is not None and dict(source.shapes) != names.shapes(recorded):
    what = f"{source.origin} has parameters of other shapes"
    raise adapters.another_base(directory, init, what)
  return source


def run_as(config: t5.T5Config, given: t5.T5Config) -> t5.T5Config:
  """Returns an architecture with another's dropout, dtype and ways to be run."""
  how = {name: getattr(given, name) for name in t5.NOT_OF_A_CHECKPOINT}
  return dataclasses.replace(config, **how)


def _with_rows(config: t5.T5Config, other: t5.T5Config) -> t5.T5Config:
  """Returns an architecture that takes the other's vocabulary size if it has none."""
  return dataclasses.replace(config, vocab_size=config.vocab_size or other.vocab_size)


def _differences(config: t5.T5Config, given: t5.T5Config) -> list[str]:
  values, others = dataclasses.asdict(config), dataclasses.asdict(given)
  return [
    f"{name} = {value} (gin: {others[name]})"
    for name, value in values.items()
    if value != others[name]
  ]


def params(source: weights.Weights, model: Model, mesh: Mesh) -> dict[str, Any]:
  """Reads weights onto a mesh, one stack of layers at a time.

  Args:
    source: the weights.
    model: the model they are for.
    mesh: the mesh.

  Returns:
    float32 parameters, nested as the model's; those of LoRA are not among them.

  Raises:
    UserError: a tensor cannot be read, or holds NaN.
  """
  places = jax.tree_util.tree_leaves_with_path(model.abstract_params(mesh))
  shardings = {"/".join(p.key for p in path): x.sharding for path, x in places}

  def put(name, value):
    return jax.make_array_from_callback(
      value.shape, shardings[name], lambda index: value[index]
    )

  return source.nested(put)


def base_params(
  source: weights.Weights | None, model: Model, mesh: Mesh, seed: int
) -> dict[str, Any]:
  """Returns all parameters of a model with LoRA but its factors, laid out on a mesh.

  Args:
    source: the weights that INIT names; None for 'scratch'.
    model: the model.
    mesh: the mesh.
    seed: the seed of the run, for 'scratch'.

  Raises:
    UserError: a tensor cannot be read, or holds NaN.
  """
  if source is not None:
    return params(source, model, mesh)
  plain = Model(dataclasses.replace(model.config, lora=None))
  places = jax.tree.map(lambda x: x.sharding, plain.abstract_params(mesh))
  return jax.jit(plain.init, out_shardings=places)(jax.random.key(seed))


def with_fresh_factors(
  base: dict[str, Any], model: Model, mesh: Mesh, seed: int
) -> dict[str, Any]:
  """Returns the parameters that a run with LoRA starts from.

  Args:
    base: see `base_params`.
    model: the model.
    mesh: the mesh.
    seed: the seed of the run.

  Returns:
    The base, not copied, with `lora_a` drawn and `lora_b` zero: it computes what the
    base does.
  """

  def factors(tree):
    return parameter_groups.select(tree, parameter_groups.is_lora_factor)

  places = jax.tree.map(lambda x: x.sharding, factors(model.abstract_params(mesh)))
  draw = jax.jit(lambda key: factors(model.init(key)), out_shardings=places)
  return parameter_groups.merge(base, draw(jax.random.key(seed)))

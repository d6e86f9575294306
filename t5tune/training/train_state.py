"""The model as pure functions, and the state that training carries."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from t5tune import partitioning
from t5tune.models import t5
from t5tune.training import optimizers, parameter_groups


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """What an update changes.

  Attributes:
    step: int32 scalar, updates made so far.
    params: float32 parameters, nested dictionaries with T5X's names: all of them,
      those that do not train and LoRA's factors included.
    opt_state: the optimiser's state, of the parameters that train.
    average: the moving average of the parameters that train, nested like them; None
      where there is none.
  """

  step: jax.Array
  params: dict[str, Any]
  opt_state: Any
  average: dict[str, Any] | None = None


def evaluated_params(state: TrainState) -> dict[str, Any]:
  """Returns the parameters with the average in place of what it averages."""
  if state.average is None:
    return state.params
  return parameter_groups.merge(state.params, state.average)


def saved_part(state: TrainState, model: "Model") -> TrainState:
  """Returns the state as checkpoints keep it: of a model with LoRA, only its factors.

  Args:
    state: a train state, of arrays or of anything else.
    model: its model.
  """
  if not model.has_lora:
    return state
  factors = parameter_groups.select(state.params, parameter_groups.is_lora_factor)
  return dataclasses.replace(state, params=factors)


def with_base(saved: TrainState, base_params: dict[str, Any]) -> TrainState:
  """Returns the state that `saved_part` came from.

  Args:
    saved: what a checkpoint kept.
    base_params: the parameters that LoRA adds to; factors among them are replaced.
  """
  params = parameter_groups.merge(base_params, saved.params)
  return dataclasses.replace(saved, params=params)


@dataclasses.dataclass(frozen=True)
class ParamSpec:
  """A parameter's shape and the logical axis of each of its dimensions."""

  shape: tuple[int, ...]
  axes: tuple[str, ...]


class Model:
  """A T5 split into its (static) definition and the shape of its parameters."""

  def __init__(self, config: t5.T5Config):
    self.config = config
    module = nnx.eval_shape(lambda: t5.T5(config, nnx.Rngs(0)))
    self._graphdef, self._abstract = nnx.split(module)
    self._structure = jax.tree.structure(self._abstract)

  def init(self, key: jax.Array) -> dict[str, Any]:
    """Returns freshly initialised parameters."""
    module = t5.T5(self.config, nnx.Rngs(params=key))
    return nnx.to_pure_dict(nnx.state(module))

  def merge(self, params: dict[str, Any]) -> t5.T5:
    """Returns the module with these parameters."""
    # States and dictionaries flatten alike, in the order of their sorted keys.
    state = jax.tree.unflatten(self._structure, jax.tree.leaves(params))
    return nnx.merge(self._graphdef, state)

  def param_specs(self) -> dict[str, Any]:
    """Returns a `ParamSpec` for every parameter, nested like the parameters."""

    def spec(path, variable):
      axes = tuple(variable.get_metadata()["logical_axes"])
      axes = ("layers", *axes) if "layers" in path else axes
      return ParamSpec(tuple(variable.shape), axes)

    flat = {p: spec(p, v) for p, v in nnx.to_flat_state(self._abstract)}
    return nnx.traversals.unflatten_mapping(flat)

  def abstract_params(self, mesh: Mesh) -> dict[str, Any]:
    """Returns every parameter's shape, dtype and sharding, to restore it to."""

    def place(spec):
      sharding = partitioning.sharding(mesh, spec.axes, spec.shape)
      return jax.ShapeDtypeStruct(spec.shape, jnp.float32, sharding=sharding)

    return jax.tree.map(place, self.param_specs())

  @property
  def has_lora(self) -> bool:
    """Whether the model has LoRA's factors."""
    names = parameter_groups.flatten(self.param_specs())
    return any(map(parameter_groups.is_lora_factor, names))

  def num_params(self) -> int:
    """Returns the number of parameters."""
    return sum(x.size for x in jax.tree.leaves(self._abstract))


def state_shardings(
  model: Model, optimizer: optimizers.Optimizer, mesh: Mesh
) -> TrainState:
  """Returns the `NamedSharding` of every array of the train state."""
  specs = model.param_specs()
  abstract = abstract_state(model, optimizer)

  def place(axes, shape):
    return partitioning.sharding(mesh, axes, shape)

  params = jax.tree.map(lambda spec: place(spec.axes, spec.shape), specs)
  return TrainState(
    step=partitioning.replicated(mesh),
    params=params,
    opt_state=jax.tree.map(
      lambda value, axes: place(axes, value.shape),
      abstract.opt_state,
      optimizers.state_axes(abstract.opt_state, specs),
    ),
    average=None if abstract.average is None else optimizer.trainable(params),
  )


def abstract_state(model: Model, optimizer: optimizers.Optimizer) -> TrainState:
  """Returns the train state's shapes and dtypes."""
  return jax.eval_shape(lambda: _create(model, optimizer, jax.random.key(0)))


def placed_abstract_state(
  model: Model, optimizer: optimizers.Optimizer, mesh: Mesh
) -> TrainState:
  """Returns the train state's shapes, dtypes and shardings, to restore it to."""
  return jax.tree.map(
    lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
    abstract_state(model, optimizer),
    state_shardings(model, optimizer, mesh),
  )


def create(
  model: Model,
  optimizer: optimizers.Optimizer,
  mesh: Mesh,
  seed: int,
  params: dict[str, Any] | None = None,
) -> TrainState:
  """Returns a fresh train state, made in place on the mesh.

  Args:
    model: the model.
    optimizer: its optimiser.
    mesh: the mesh; no array is ever whole on one device unless it is replicated.
    seed: seed of the parameters' initialisation.
    params: the initial parameters, laid out on the mesh; None for random ones.
  """
  shardings = state_shardings(model, optimizer, mesh)
  if params is None:
    init = jax.jit(lambda key: _create(model, optimizer, key), out_shardings=shardings)
    return init(jax.random.key(seed))
  # Without the parameters among its results, which would be copied.
  made = jax.jit(
    lambda params: dataclasses.replace(fresh(optimizer, params), params=None),
    out_shardings=dataclasses.replace(shardings, params=None),
  )(params)
  return dataclasses.replace(made, params=params)


def _create(model, optimizer, key):
  return fresh(optimizer, model.init(key))


def fresh(optimizer: optimizers.Optimizer, params: dict[str, Any]) -> TrainState:
  """Returns the state before the first update of these parameters."""
  trainable = optimizer.trainable(params)
  opt_state = optimizer.init(trainable)
  # A copy, for an update gives the buffers of both away.
  average = jax.tree.map(jnp.copy, trainable) if optimizer.ema_decay else None
  return TrainState(jnp.zeros((), jnp.int32), params, opt_state, average)

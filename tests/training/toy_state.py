"""A train state of a few sharded arrays, for tests of checkpoints."""

import jax
import numpy as np

from t5tune import partitioning
from t5tune.training import checkpoints, train_state

AXES = {"kernel": ("embed", "mlp"), "scale": ("embed",)}
BY = "average on validation"
META = {"feed": {"row": 12345}, "best": {"score": None, "step": 0, "by": BY}}


def toy_state(step: int, **mesh: int) -> train_state.TrainState:
  """Returns a state whose values follow from its step."""
  mesh = partitioning.make_mesh(mesh or {"data": 2, "fsdp": 2, "tensor": 2})
  rng = np.random.default_rng(step)

  def put(axes, x):
    return jax.device_put(x, partitioning.sharding(mesh, axes, x.shape))

  def draw():
    kernel, scale = rng.normal(size=(16, 8)), rng.normal(size=16)
    return {
      "wi": {"kernel": put(AXES["kernel"], kernel.astype(np.float32))},
      "norm": {"scale": put(AXES["scale"], scale.astype(np.float32))},
    }

  count = put((), np.int32(step))
  average = {"wi": draw()["wi"]}  # of the parameters that train
  state = (draw(), count, {"none": ()})
  return train_state.TrainState(put((), np.int32(step)), draw(), state, average)


def abstract(state: train_state.TrainState) -> train_state.TrainState:
  """Returns shapes, dtypes and shardings to restore to."""
  place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)  # noqa: E731
  return jax.tree.map(place, state)


def best(score: float | None, step: int, by: str = BY) -> dict:
  """Returns the JSON values of a checkpoint after an evaluation."""
  return {**META, "best": {"score": score, "step": step, "by": by}}


def save_all(folder, metas: dict[int, dict], keep: int = 1) -> checkpoints.Checkpoints:
  """Saves a checkpoint of each step and returns those that were kept."""
  saved = checkpoints.Checkpoints(folder, keep)
  for step, meta in metas.items():
    saved.save(toy_state(step), meta)
  saved.close()
  return checkpoints.Checkpoints(folder, read_only=True)


def assert_same(found, expected) -> None:
  """Compares two trees bit by bit."""
  for (path, a), b in zip(
    jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(found), strict=True
  ):
    name = jax.tree_util.keystr(path)
    assert a.dtype == b.dtype, name
    np.testing.assert_array_equal(np.asarray(b), np.asarray(a), err_msg=name)

"""A train state of a few sharded arrays, for tests of checkpoints."""

import jax
import numpy as np

from t5tune import partitioning
from t5tune.training import checkpoints, train_state

AXES = {"kernel": ("embed", "mlp"), "scale": ("embed",)}
RANKED_BY = "average on validation"
META = {"feed": {"row": 12345}, "best": {"score": None, "step": 0}}


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
  return train_state.TrainState(put((), np.int32(step)), draw(), (draw(), count))


def abstract(state: train_state.TrainState) -> train_state.TrainState:
  """Returns shapes, dtypes and shardings to restore to."""
  place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)  # noqa: E731
  return jax.tree.map(place, state)


def save_all(
  folder, scores: dict[int, float | None], keep: int = 1, ranked_by: str = RANKED_BY
):
  """Saves a checkpoint of each step and returns those that were kept."""
  saved = checkpoints.Checkpoints(folder, ranked_by, keep)
  for step, score in scores.items():
    saved.save(toy_state(step), META, score)
  saved.close()
  return checkpoints.Checkpoints(folder, ranked_by, read_only=True)


def assert_same(found, expected) -> None:
  """Compares two trees bit by bit."""
  for (path, a), b in zip(
    jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(found), strict=True
  ):
    name = jax.tree_util.keystr(path)
    assert a.dtype == b.dtype, name
    np.testing.assert_array_equal(np.asarray(b), np.asarray(a), err_msg=name)

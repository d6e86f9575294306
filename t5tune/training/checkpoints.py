"""Checkpoints: written by orbax in the background, guarded by our own checksums."""

import functools
import gc
import json
import logging
import pathlib
import sys
import warnings
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from t5tune import errors
from t5tune.training.train_state import TrainState

for name in ("absl", "asyncio"):  # orbax narrates, and prints what it raises
  logging.getLogger(name).setLevel(logging.CRITICAL)


class Checkpoints:
  """The checkpoints of a work directory.

  Each holds `params`, `opt_state` and `meta` (JSON: the state of the feed, the best
  score so far, checksums). The latest few are kept, and the best.
  """

  def __init__(
    self,
    directory: pathlib.Path,
    ranked_by: str,
    keep: int = 1,
    read_only: bool = False,
  ):
    """Opens, and unless `read_only` creates, a directory of checkpoints.

    Args:
      directory: the directory.
      ranked_by: names what the scores are; those of another name do not rank.
      keep: how many of the latest to keep, beside the best.
      read_only: whether saving is ruled out.

    Raises:
      UserError: the score of a checkpoint is damaged.
    """
    self._directory = pathlib.Path(directory).absolute()
    self._ranked_by = ranked_by
    self._check_scores()
    policies = checkpoint_managers.preservation_policy
    # Of equal scores the first is the best, as it is to the training loop.
    score = lambda m: (m["by"] == ranked_by, m["score"], -m["step"])  # noqa: E731
    # `max_to_keep` with a `best_fn` may drop the newest; these policies do not.
    kept = policies.AnyPreservationPolicy(
      [
        policies.LatestN(keep),
        policies.BestN(
          get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False
        ),
      ]
    )
    self._manager = ocp.CheckpointManager(
      self._directory,
      options=ocp.CheckpointManagerOptions(
        create=not read_only,
        read_only=read_only,
        preservation_policy=kept,
        best_fn=score,
        cleanup_tmp_directories=not read_only,
        # A directory that cannot be made must fail here: in the background, orbax's
        # other threads would wait minutes for it.
        async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
      ),
    )

  def steps(self) -> list[int]:
    """Returns the steps that have a complete checkpoint, in order."""
    return sorted(self._manager.all_steps())

  def latest(self) -> int | None:
    """Returns the latest step with a complete checkpoint."""
    return self._manager.latest_step()

  def best(self) -> int | None:
    """Returns the step whose score is the best, or None if none was scored so."""
    step = self._manager.best_step()
    if step is None or self._manager.metrics(step)["by"] != self._ranked_by:
      return None
    return step

  def save(self, state: TrainState, meta: dict[str, Any], score: float | None) -> None:
    """Begins to write a checkpoint of this step; training may go on at once.

    Args:
      state: the train state.
      meta: JSON values kept beside it.
      score: the value that ranks it among the best, or None.

    Raises:
      UserError: the disk is full or cannot be written.
    """
    step = int(state.step)
    ranked = {"score": score, "step": step, "by": self._ranked_by}
    sums = jax.device_get(_checksums({"params": state.params, "opt": state.opt_state}))
    sums = {k: int(v) for k, v in _by_path(sums).items()}
    meta = _sealed({**meta, "checksums": sums})
    self._guarded(
      functools.partial(
        self._manager.save,
        step,
        args=ocp.args.Composite(
          params=ocp.args.StandardSave(state.params),
          opt_state=ocp.args.StandardSave(state.opt_state),
          meta=ocp.args.JsonSave(meta),
        ),
        metrics=None if score is None else _sealed(ranked),
        force=True,
      )
    )

  def restore(
    self, step: int, abstract: TrainState
  ) -> tuple[TrainState, dict[str, Any]]:
    """Reads a checkpoint back, onto whatever mesh the run has now.

    Args:
      step: which one.
      abstract: `jax.ShapeDtypeStruct`s with the shardings to restore to.

    Returns:
      The train state and the JSON values saved with it.

    Raises:
      UserError: the checkpoint is damaged or does not fit the model.
    """
    restored = self._read(
      step,
      params=ocp.args.StandardRestore(abstract.params),
      opt_state=ocp.args.StandardRestore(abstract.opt_state),
      meta=ocp.args.JsonRestore(),
    )
    sums = _checksums({"params": restored.params, "opt": restored.opt_state})
    self._verify(step, sums, restored.meta)
    state = TrainState(
      jax.device_put(jnp.int32(step), abstract.step.sharding),
      restored.params,
      restored.opt_state,
    )
    return state, restored.meta

  def restore_params(self, step: int, abstract_params) -> Any:
    """Reads only the parameters of a checkpoint; see `restore`."""
    restored = self._read(
      step,
      params=ocp.args.StandardRestore(abstract_params),
      meta=ocp.args.JsonRestore(),
    )
    sums = _checksums({"params": restored.params})
    self._verify(step, sums, restored.meta)
    return restored.params

  def param_reader(self, step: int) -> Callable[[tuple[str, ...]], np.ndarray]:
    """Returns a function that reads single parameters of a checkpoint.

    Args:
      step: which one.

    Returns:
      path of a parameter in the nested dictionaries -> float32 array. It raises a
      UserError where the parameter is damaged.
    """
    meta = self._read(step, meta=ocp.args.JsonRestore()).meta
    folder = self._directory / str(step) / "params"
    checkpointer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())

    def read(path: tuple[str, ...]) -> np.ndarray:
      item = functools.reduce(lambda inside, key: {key: inside}, path[::-1], 0)
      places = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
      wanted = ocp.args.PyTreeRestore(item, places, partial_restore=True)
      try:
        found = checkpointer.restore(folder, args=wanted)
      except Exception as e:  # a missing or damaged file surfaces in many kinds
        raise self._unreadable(step, e) from e
      self._verify(step, _checksums({"params": found}), meta)
      return jax.tree.leaves(found)[0]

    return read

  def wait(self) -> None:
    """Waits until everything saved is on disk."""
    self._guarded(self._manager.wait_until_finished)

  def close(self) -> None:
    """Waits, and releases the directory."""
    self.wait()
    self._manager.close()

  def _guarded(self, action) -> None:
    try:
      action()
    except Exception as e:  # orbax and tensorstore raise many kinds
      if not is_disk_error(e):
        raise
      steps = self._manager.all_steps(read=True)  # what lies there now
      whole = ", ".join(map(str, sorted(steps))) or "none"
      raise errors.UserError(
        f"cannot write a checkpoint to {self._directory}: {str(e).splitlines()[0]}."
        f" Complete checkpoints: {whole}. Free space there, then start again: the run"
        " continues from the latest."
      ) from e

  def _read(self, step: int, **items):
    try:
      return self._manager.restore(step, args=ocp.args.Composite(**items))
    except Exception as e:  # a missing or damaged file surfaces in many kinds
      error = self._unreadable(step, e)
    _drop_pending_reads()
    raise error

  def _unreadable(self, step: int, e: Exception) -> errors.UserError:
    reason = (str(e).splitlines() or [repr(e)])[0].rstrip(".")
    others = [s for s in self.steps() if s != step]
    return errors.UserError(
      f"checkpoint {self._directory / str(step)} cannot be read: {reason}."
      f" {_way_out(step, others)}"
    )

  def _verify(self, step: int, sums, meta: dict[str, Any]) -> None:
    found = _by_path(jax.device_get(sums))
    if not _is_whole(meta):
      damaged = ["meta"]
    else:
      recorded = meta["checksums"]
      damaged = [name for name, value in found.items() if int(value) != recorded[name]]
    if damaged:
      more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
      others = [s for s in self.steps() if s != step]
      raise errors.UserError(
        f"checkpoint {self._directory / str(step)} is damaged: {damaged[0]}{more} not"
        f" as saved. {_way_out(step, others)}"
      )

  def _check_scores(self) -> None:
    for file in sorted(self._directory.glob("[0-9]*/metrics/metrics")):
      if not file.parents[1].name.isdigit():
        continue  # a save that was cut short; orbax removes it
      try:
        whole = _is_whole(json.loads(file.read_text()))
      except ValueError:
        whole = False
      if not whole:
        raise errors.UserError(
          f"checkpoint {file.parents[1]} is damaged: its score, {file}, is not as"
          " saved. Remove that checkpoint's directory to go on without it."
        )


def write_params(directory: pathlib.Path, step: int, params: dict[str, Any]) -> None:
  """Writes a directory of checkpoints that holds one, without optimiser state.

  Args:
    directory: the directory to make.
    step: updates that made the parameters.
    params: nested dictionaries of float32 arrays.

  Raises:
    OSError, ValueError: the disk is full or cannot be written.
  """
  leaves = jax.tree_util.tree_leaves_with_path({"params": params})
  sums = {jax.tree_util.keystr(p): int(_checksums(value)) for p, value in leaves}
  handlers = {
    # A file for every array: in one database they would all be held until the end.
    "params": ocp.StandardCheckpointHandler(use_ocdbt=False),
    "meta": ocp.JsonCheckpointHandler(),
  }
  options = ocp.CheckpointManagerOptions(create=True, enable_async_checkpointing=False)
  with ocp.CheckpointManager(
    directory.absolute(), options=options, item_handlers=handlers
  ) as manager:
    manager.save(
      step,
      args=ocp.args.Composite(
        params=ocp.args.StandardSave(params),
        meta=ocp.args.JsonSave(_sealed({"checksums": sums})),
      ),
    )


def _drop_pending_reads() -> None:
  """Frees what a failed restore left behind, without its pages of tracebacks."""
  hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
  try:
    with warnings.catch_warnings(action="ignore"):
      gc.collect()
  finally:
    sys.unraisablehook = hook


def _sealed(values: Mapping[str, Any]) -> dict[str, Any]:
  """Returns JSON values with a checksum of themselves."""
  return {**values, "crc32": _crc32(values)}


def _is_whole(sealed: Any) -> bool:
  """Whether the values are those that `_sealed` got."""
  if not isinstance(sealed, dict):
    return False
  values = {k: v for k, v in sealed.items() if k != "crc32"}
  return sealed.get("crc32") == _crc32(values)


def _crc32(values: Mapping[str, Any]) -> int:
  return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def _way_out(step: int, others: list[int]) -> str:
  if not others:
    return "There is no other checkpoint: start in a new --workdir."
  return f"Remove that directory to go on from step {max(s for s in others)}."


def is_disk_error(e: BaseException) -> bool:
  """Whether an exception, of whatever kind, tells of a disk that cannot be written."""
  text = str(e)
  signs = ("No space left", "quota", "File too large", "Input/output error")
  signs += ("Permission denied", "Read-only file system")
  return isinstance(e, OSError) or any(sign in text for sign in signs)


def _by_path(tree) -> dict[str, Any]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path): value for path, value in leaves}


@jax.jit
def _checksums(tree):
  """Returns a uint32 for every array, the same on every mesh.

  Each 32-bit word is multiplied by an odd number of its position and all are added
  modulo 2**32: any single changed word changes the sum, and integer addition does
  not depend on how the array is split.
  """

  def checksum(x):
    words = jax.lax.bitcast_convert_type(x, jnp.uint32).reshape(-1)
    positions = jax.lax.iota(jnp.uint32, words.size)
    return jnp.sum(words * (positions * jnp.uint32(2654435761) * 2 + 1))

  return jax.tree.map(checksum, tree)

"""Reads checkpoints: whole, only what is evaluated, or a parameter at a time.

What lies on disk, and when it counts: `checkpoint_files.py`.
"""

import functools
import gc
import logging
import math
import pathlib
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from t5tune import errors
from t5tune.training import array_checksums
from t5tune.training import checkpoint_files as files
from t5tune.training.train_state import TrainState

for name in ("absl", "asyncio"):  # orbax narrates, and prints what it raises
  logging.getLogger(name).setLevel(logging.CRITICAL)


class Damaged(errors.UserError):
  """A checkpoint is not as it was saved.

  Attributes:
    line: what is damaged, without the way out.
  """

  def __init__(self, line: str, way_out: str):
    super().__init__(f"{line} {way_out}")
    self.line = line


class Reader:
  """Reads the checkpoints of a directory, which need not exist."""

  def __init__(self, directory: pathlib.Path):
    self._directory = pathlib.Path(directory).absolute()

  def steps(self) -> list[int]:
    """Returns the steps that have a complete checkpoint, in order."""
    return files.steps(self._directory)

  def latest(self) -> int | None:
    """Returns the latest step with a complete checkpoint."""
    return max(self.steps(), default=None)

  def best(self, by: str) -> int | None:
    """Returns the step whose score is the best, or None if none was scored so.

    Args:
      by: what the scores are, as in `meta['best']['by']`.
    """
    steps = self.steps()
    metas = (files.read_meta(self._directory / str(s)) for s in reversed(steps))
    best = next((meta for meta in metas if meta), {}).get("best") or {}
    step = best_step(best)
    return step if best.get("by") == by and step in steps else None

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
    meta = self._whole_meta(step)
    wanted = tree_of(abstract)
    names = array_checksums.by_path(wanted).keys()
    self._check_fit(step, names, meta["checksums"].keys())
    tree = self._read(step, wanted, meta)
    step_array = jax.make_array_from_callback(
      (), abstract.step.sharding, lambda _: np.asarray(step, np.int32)
    )
    return TrainState(step_array, **tree), meta

  def restore_params(self, step: int, abstract_params) -> Any:
    """Reads the parameters to evaluate: the average of those that have one.

    Args:
      step: which checkpoint.
      abstract_params: as in `restore`.

    Raises:
      UserError: as for `restore`.
    """
    meta = self._whole_meta(step)
    wanted = array_checksums.by_path({"params": abstract_params})
    places = {name: _evaluated(name, meta) for name in wanted}
    saved = {n for n in meta["checksums"] if n.startswith("params/")}
    self._check_fit(step, wanted.keys(), saved)
    nested: dict[str, Any] = {}
    for name, place in places.items():
      *folders, last = place.split("/")
      inside = functools.reduce(lambda d, k: d.setdefault(k, {}), folders, nested)
      inside[last] = wanted[name]
    found = array_checksums.by_path(self._read(step, nested, meta))
    structure = jax.tree.structure({"params": abstract_params})
    return jax.tree.unflatten(structure, [found[p] for p in places.values()])["params"]

  def param_reader(self, step: int) -> Callable[[tuple[str, ...]], np.ndarray]:
    """Returns a function that reads single parameters of a checkpoint.

    Args:
      step: which one.

    Returns:
      path of a parameter in the nested dictionaries -> float32 array, the average where
      there is one. It raises a UserError where the parameter is damaged.
    """
    meta = self._whole_meta(step, contents=False)  # an array is checked as it is read
    folder = self._directory / str(step) / files.ARRAYS
    checkpointer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())

    def read(path: tuple[str, ...]) -> np.ndarray:
      keys = _evaluated("/".join(("params", *path)), meta).split("/")
      item = functools.reduce(lambda inside, key: {key: inside}, keys[::-1], 0)
      places = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
      wanted = ocp.args.PyTreeRestore(item, places, partial_restore=True)
      try:
        found = checkpointer.restore(folder, args=wanted)
      except Exception as e:  # a missing or damaged file surfaces in many kinds
        raise self._unreadable(step, e) from e
      self._verify(step, found, meta)
      return jax.tree.leaves(found)[0]

    return read

  def _whole_meta(self, step: int, contents: bool = True) -> dict[str, Any]:
    """Checks the files of a checkpoint; returns its JSON values."""
    folder = self._directory / str(step)
    if step not in self.steps():
      there = ", ".join(map(str, self.steps())) or "none"
      raise errors.UserError(
        f"{folder} is not there. Complete checkpoints in {self._directory}: {there}."
      )
    try:
      found = None
      if contents:
        found = files.damage(folder, jax.process_index(), jax.process_count())
      meta = files.read_meta(folder)
    except OSError as e:
      raise self._unreadable(step, e) from e
    found = found or (None if meta else f"{files.META} is missing or not as saved")
    if found := _agreed(found):
      raise self._damaged(step, found)
    return meta

  def _read(self, step: int, wanted, meta: dict[str, Any]):
    """Reads arrays of a checkpoint onto the mesh and checks them."""
    arguments = ocp.args.PyTreeRestore(
      wanted,
      ocp.checkpoint_utils.construct_restore_args(wanted),
      partial_restore=True,
    )
    try:
      with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        folder = self._directory / str(step) / files.ARRAYS
        found = checkpointer.restore(folder, args=arguments)
    except Exception as e:  # its files are whole, so they do not fit
      error = self._unreadable(step, e)
    else:
      self._verify(step, found, meta)
      return found
    drop_pending()
    raise error

  def _verify(self, step: int, tree, meta: dict[str, Any]) -> None:
    sums = jax.device_get(array_checksums.checksums(tree))
    found, kept = array_checksums.by_path(sums), meta["checksums"]
    damaged = [name for name, value in found.items() if int(value) != kept[name]]
    if damaged:
      more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
      raise self._damaged(step, f"{damaged[0]}{more} not as saved")

  def _check_fit(self, step: int, wanted, saved) -> None:
    for names, what in (
      (wanted - saved, "lacks"),
      (saved - wanted, "holds, and this run has not,"),
    ):
      if names:
        first, more = min(names), len(names) - 1
        and_more = f" and {more} more" if more else ""
        raise errors.UserError(
          f"checkpoint {self._directory / str(step)} does not fit: it {what}"
          f" {first}{and_more}. Name the --workdir of a run with these settings."
        )

  def _damaged(self, step: int, what: str) -> Damaged:
    line = f"checkpoint {self._directory / str(step)} is damaged: {what}."
    others = [s for s in self.steps() if s != step]
    way_out = "There is no other checkpoint: start in a new --workdir."
    if others:
      way_out = f"Remove that directory to go on from step {max(others)}."
    return Damaged(line, way_out)

  def _unreadable(self, step: int, e: Exception) -> errors.UserError:
    reason = (str(e).splitlines() or [repr(e)])[0].rstrip(".")
    return errors.UserError(
      f"checkpoint {self._directory / str(step)} cannot be read: {reason}."
    )


def tree_of(state: TrainState) -> dict[str, Any]:
  """Returns what orbax writes of a train state; the step names the checkpoint."""
  tree = {"params": state.params, "opt_state": state.opt_state}
  return tree if state.average is None else {**tree, "average": state.average}


def best_step(best: Mapping[str, Any]) -> int | None:
  """Returns the step of a best evaluation; a score that is no number is none."""
  score = best.get("score")
  return best["step"] if score is not None and math.isfinite(score) else None


def _evaluated(name: str, meta: Mapping[str, Any]) -> str:
  """Returns where the value of a parameter to evaluate was saved."""
  averaged = "average" + name.removeprefix("params")
  return averaged if averaged in meta["checksums"] else name


def _agreed(found: str | None) -> str | None:
  """Returns what any of the processes found, to all of them."""
  if jax.process_count() == 1:
    return found
  text = np.zeros(512, np.uint8)
  encoded = (found or "").encode()[:512]
  text[: len(encoded)] = np.frombuffer(encoded, np.uint8)
  everyone = multihost_utils.process_allgather(text)
  said = [bytes(t).rstrip(b"\0").decode(errors="ignore") for t in everyone]
  return next((text for text in said if text), None)


def drop_pending() -> None:
  """Frees what failed reads or writes left behind, without pages of tracebacks."""
  hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
  try:
    with warnings.catch_warnings(action="ignore"):
      gc.collect()
  finally:
    sys.unraisablehook = hook

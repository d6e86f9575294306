"""Checkpoints: written by orbax in the background, guarded by our own checksums.

What lies on disk, and when it counts: `checkpoint_files.py`.
"""

import contextlib
import functools
import gc
import logging
import math
import os
import pathlib
import sys
import threading
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

_NICE = 10  # the background gives way to training


class _Damaged(errors.UserError):
  """A checkpoint is not as it was saved."""


class Checkpoints:
  """The checkpoints of a work directory.

  Each holds a train state, of whatever trees, and `meta`: JSON values, among them
  `best`: {'score', 'step', 'by'} of the best evaluation so far. The latest few are
  kept, and the one that the newest calls best. Of several processes all call the
  methods, at the same steps, on one shared disk.
  """

  def __init__(self, directory: pathlib.Path, keep: int = 1, read_only: bool = False):
    """Opens, and unless `read_only` creates, a directory of checkpoints.

    Args:
      directory: the directory.
      keep: how many of the latest to keep, beside the best; at least 1.
      read_only: whether saving is ruled out.

    Raises:
      UserError: it cannot be written.
    """
    self._directory, self._keep = pathlib.Path(directory).absolute(), max(keep, 1)
    self._thread = self._failure = None
    if not read_only:
      # Floats hardly shrink, and packing them would take the steps' time.
      handler = ocp.PyTreeCheckpointHandler(use_compression=False)
      # A directory that cannot be made must fail here: in the background, orbax's
      # other threads would wait minutes for it.
      options = ocp.AsyncOptions(create_directories_asynchronously=False)
      self._arrays = ocp.AsyncCheckpointer(handler, async_options=options)
      if jax.process_index() == 0:
        self._guarded(self._open)

  def _open(self) -> None:
    self._directory.mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(self._directory)

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
    step = _best_step(best)
    return step if best.get("by") == by and step in steps else None

  def save(self, state: TrainState, meta: Mapping[str, Any]) -> None:
    """Begins to write a checkpoint of this step; training may go on at once.

    Where the step has one already, only `meta` is written anew.

    Args:
      state: the train state.
      meta: JSON values kept beside it.

    Raises:
      UserError: the disk is full or cannot be written, now or at the save before.
    """
    self.wait()
    step = int(state.step)
    if step in self.steps():
      if jax.process_index() == 0:
        files.amend(self._directory, step, meta)
        self._remove_old(meta)
      return
    tree = _tree(state)
    # Begun before the buffers are given away, awaited in the background.
    sums = array_checksums.by_path(array_checksums.checksums(tree))
    folder = files.partial(self._directory, step) / files.ARRAYS
    arguments = ocp.args.PyTreeSave(tree)
    self._guarded(lambda: self._arrays.save(folder, args=arguments))
    self._thread = threading.Thread(target=self._finish, args=(step, meta, sums))
    self._thread.start()

  def _finish(self, step: int, meta: Mapping[str, Any], sums: dict[str, Any]) -> None:
    try:
      with contextlib.suppress(OSError):  # threads have no priority of their own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
      self._arrays.wait_until_finished()
      if jax.process_index() == 0:
        sums = {name: int(x) for name, x in jax.device_get(sums).items()}
        files.commit(self._directory, step, {**meta, "checksums": sums})
        self._remove_old(meta)
    except Exception as e:
      self._failure = e

  def _remove_old(self, meta: Mapping[str, Any]) -> None:
    kept = {*self.steps()[-self._keep :], _best_step(meta.get("best") or {})}
    for old in set(self.steps()) - kept:
      files.remove(self._directory, old)

  def wait(self) -> None:
    """Waits until everything saved is on disk.

    Raises:
      UserError: it cannot be written.
    """

    def finish():
      if self._thread is not None:
        self._thread.join()
        self._thread, failure, self._failure = None, self._failure, None
        if failure is not None:
          raise failure

    self._guarded(finish)

  def close(self) -> None:
    """Waits, and releases what writing needs."""
    self.wait()
    self._arrays.close()

  def restore_latest(
    self, abstract: TrainState, tell: Callable[[str], None]
  ) -> tuple[TrainState, dict[str, Any]] | None:
    """Reads the newest checkpoint that is whole.

    One that is damaged is moved to `damaged/` beside the directory.

    Args:
      abstract: as for `restore`.
      tell: gets a line for each checkpoint that is damaged.

    Returns:
      As `restore`; None if there is no checkpoint.

    Raises:
      UserError: none is whole, or the newest does not fit the model.
    """
    damaged = []
    while (step := self._agreed_latest()) is not None:
      try:
        return self.restore(step, abstract)
      except _Damaged as e:
        aside = self._put_aside(step)
        next_one = self._agreed_latest()
        then = f"going on from step {next_one}" if next_one is not None else "none left"
        tell(f"{e.args[1]} It is now {aside}; {then}.")
        damaged.append(aside)
    if damaged:
      raise errors.UserError(
        f"no checkpoint in {self._directory} is whole; the damaged ones are in"
        f" {damaged[0].parent}. Start again to train from the beginning."
      )
    return None

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
    wanted = _tree(abstract)
    self._check_fit(
      step, array_checksums.by_path(wanted).keys(), meta["checksums"].keys()
    )
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
    _drop_pending()
    raise error

  def _verify(self, step: int, tree, meta: dict[str, Any]) -> None:
    found, recorded = (
      array_checksums.by_path(jax.device_get(array_checksums.checksums(tree))),
      meta["checksums"],
    )
    damaged = [name for name, value in found.items() if int(value) != recorded[name]]
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

  def _damaged(self, step: int, what: str) -> _Damaged:
    line = f"checkpoint {self._directory / str(step)} is damaged: {what}."
    others = [s for s in self.steps() if s != step]
    way_out = "There is no other checkpoint: start in a new --workdir."
    if others:
      way_out = f"Remove that directory to go on from step {max(others)}."
    return _Damaged(f"{line} {way_out}", line)

  def _unreadable(self, step: int, e: Exception) -> errors.UserError:
    reason = (str(e).splitlines() or [repr(e)])[0].rstrip(".")
    return errors.UserError(
      f"checkpoint {self._directory / str(step)} cannot be read: {reason}."
    )

  def _agreed_latest(self) -> int | None:
    """Returns the latest step as the first process sees it: disks may lag."""
    latest = self.latest()
    if jax.process_count() == 1:
      return latest
    latest = np.asarray(-1 if latest is None else latest, np.int64)
    agreed = int(multihost_utils.broadcast_one_to_all(latest))
    return None if agreed < 0 else agreed

  def _put_aside(self, step: int) -> pathlib.Path:
    aside = self._directory.parent / "damaged" / str(step)
    if jax.process_index() == 0:
      aside = files.put_aside(self._directory, step)
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices(f"put aside {step}")
    return aside

  def _guarded(self, action: Callable[[], None]) -> None:
    try:
      action()
    except Exception as e:  # orbax and tensorstore raise many kinds
      if not files.is_disk_error(e):
        raise
      reason = files.disk_error(e)
    else:
      return
    _drop_pending()
    if jax.process_index() == 0:
      files.remove_leftovers(self._directory)  # their room is needed
    whole = ", ".join(map(str, self.steps())) or "none"
    raise errors.UserError(
      f"cannot write a checkpoint to {self._directory}: {reason}."
      f" Complete checkpoints: {whole}. Free space there, then start again: the run"
      " continues from the latest."
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
  directory = directory.absolute()
  sums = {
    name: array_checksums.checksums(x)
    for name, x in array_checksums.by_path({"params": params}).items()
  }
  # A file for every array: in one database they would all be held until the end.
  handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_compression=False)
  with ocp.Checkpointer(handler) as checkpointer:
    folder = files.partial(directory, step) / files.ARRAYS
    checkpointer.save(folder, args=ocp.args.PyTreeSave({"params": params}))
  meta = {"checksums": {name: int(value) for name, value in sums.items()}}
  files.commit(directory, step, meta)


def _tree(state: TrainState) -> dict[str, Any]:
  """Returns what orbax writes of a train state; the step names the checkpoint."""
  tree = {"params": state.params, "opt_state": state.opt_state}
  return tree if state.average is None else {**tree, "average": state.average}


def _best_step(best: Mapping[str, Any]) -> int | None:
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


def _drop_pending() -> None:
  """Frees what failed reads or writes left behind, without pages of tracebacks."""
  hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
  try:
    with warnings.catch_warnings(action="ignore"):
      gc.collect()
  finally:
    sys.unraisablehook = hook

"""Checkpoints: written by orbax in the background, guarded by our own checksums.

What lies on disk, and when it counts: `checkpoint_files.py`.
"""

import contextlib
import os
import pathlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from t5tune import errors
from t5tune.training import array_checksums, checkpoint_reader
from t5tune.training import checkpoint_files as files
from t5tune.training.train_state import TrainState

_NICE = 10  # the background gives way to training
_MOST_LOOKS, _BETWEEN_LOOKS = 20, 0.5  # seconds, for writes that a failure left behind


class Checkpoints(checkpoint_reader.Reader):
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
    super().__init__(directory)
    self._keep = max(keep, 1)
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
    tree = checkpoint_reader.tree_of(state)
    # Begun before the buffers are given away, awaited in the background.
    sums = array_checksums.by_path(array_checksums.checksums(tree))
    begun = threading.Event()
    work = (step, tree, sums, meta, begun)
    self._thread = threading.Thread(target=self._write, args=work)
    self._thread.start()
    begun.wait()
    if self._failure is not None:
      self.wait()

  def _write(self, step: int, tree, sums, meta, begun: threading.Event) -> None:
    """Writes a checkpoint, in a thread of its own.

    It, and the threads that orbax starts from it, give way to the training.
    """
    try:
      with contextlib.suppress(OSError):  # threads may have no priority of their own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
      folder = files.partial(self._directory, step) / files.ARRAYS
      self._arrays.save(folder, args=ocp.args.PyTreeSave(tree))
      begun.set()  # from here on the buffers may be given away
      self._arrays.wait_until_finished()
      if jax.process_index() == 0:
        sums = {name: int(x) for name, x in jax.device_get(sums).items()}
        files.commit(self._directory, step, {**meta, "checksums": sums})
        self._remove_old(meta)
    except Exception as e:
      self._failure = e
    finally:
      begun.set()

  def _remove_old(self, meta: Mapping[str, Any]) -> None:
    best = checkpoint_reader.best_step(meta.get("best") or {})
    for old in set(self.steps()[: -self._keep]) - {best}:
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
      except checkpoint_reader.Damaged as e:
        aside = self._put_aside(step)
        next_one = self._agreed_latest()
        then = f"going on from step {next_one}" if next_one is not None else "none left"
        tell(f"{e.line} It is now {aside}; {then}.")
        damaged.append(aside)
    if damaged:
      raise errors.UserError(
        f"no checkpoint in {self._directory} is whole; the damaged ones are in"
        f" {damaged[0].parent}. Start again to train from the beginning."
      )
    return None

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

  def _make_room(self) -> None:
    """Removes the checkpoint that failed, until no write on its way brings it back."""
    for _ in range(_MOST_LOOKS):
      if not files.remove_leftovers(self._directory):
        return
      time.sleep(_BETWEEN_LOOKS)

  def _guarded(self, action: Callable[[], None]) -> None:
    try:
      action()
    except Exception as e:  # orbax and tensorstore raise many kinds
      if not files.is_disk_error(e):
        raise
      reason = files.disk_error(e)
    else:
      return
    checkpoint_reader.drop_pending()
    if jax.process_index() == 0:
      self._make_room()
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
  arrays = array_checksums.by_path({"params": params})
  sums = {name: int(array_checksums.checksums(x)) for name, x in arrays.items()}
  # A file for every array: in one database they would all be held until the end.
  handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_compression=False)
  with ocp.Checkpointer(handler) as checkpointer:
    folder = files.partial(directory, step) / files.ARRAYS
    checkpointer.save(folder, args=ocp.args.PyTreeSave({"params": params}))
  files.commit(directory, step, {"checksums": sums})

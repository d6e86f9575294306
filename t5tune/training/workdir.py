"""The work directory: what a run leaves behind, and whether it may go on there.

in_use          locked while a training runs here
config.gin      the complete configuration of the latest start
run.json        what must not change between starts
mixture.json    examples, rate and epochs of every task
data.json       the token stores and how batches are made of them
spiece.model    the vocabulary
checkpoints/    see `checkpoint_files.py`
damaged/        checkpoints that were not as saved
bad_batches/    <step>.txt and .npz, what a skipped step was to be made from
metrics.jsonl   one line for every logged step and evaluated task
tensorboard/    the same as events
scores/         <purpose>-<step>.json, an evaluation
predictions/    <task>-<purpose>-<step>.jsonl, its rows
"""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import pathlib
import socket
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from t5tune import errors


def keep_data(workdir: pathlib.Path, step: int, made: Mapping[str, Any]) -> None:
  """Writes down what a run makes its batches of from a step on, in `data.json`.

  A later start may see more passes of the data, if it is to run longer.

  Args:
    workdir: the work directory.
    step: updates made before this start.
    made: the prepared mixture and the feed's settings, as JSON values.
  """
  file, made = workdir / "data.json", json.loads(json.dumps(made))
  try:
    starts = json.loads(file.read_text())["starts"] if step else []
  except (OSError, ValueError, KeyError):
    starts = []
  starts = [start for start in starts if start["after_step"] < step]
  if not starts or {k: starts[-1][k] for k in made} != made:
    starts.append({"after_step": step, **made})
  write_atomically(file, json.dumps({"starts": starts}) + "\n")


def drop_scores(workdir: pathlib.Path, step: int) -> None:
  """Removes the scores of steps that a run has yet to make once more.

  There are some where the newest checkpoint was damaged. By its file of scores a start
  knows that an evaluation was finished, and logged.

  Args:
    workdir: the work directory.
    step: updates made before this start.
  """
  for file in (workdir / "scores").glob("*-*.json"):
    scored = file.stem.rpartition("-")[2]
    if scored.isdigit() and int(scored) > step:
      file.unlink(missing_ok=True)


def write_atomically(path: pathlib.Path, content: str | bytes) -> None:
  """Writes a file so that it is never seen half-written.

  Args:
    path: the file; its folder is made if need be.
    content: its content; text is written as UTF-8.

  Raises:
    UserError: it cannot be written.
  """
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
      dir=path.parent, prefix=f".{path.name}-", delete=False
    ) as f:
      temporary = pathlib.Path(f.name)
      try:
        f.write(content.encode() if isinstance(content, str) else content)
        f.flush()
        os.fsync(f.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
      except OSError:
        temporary.unlink(missing_ok=True)
        raise
  except OSError as e:
    raise cannot_write(path, e) from e


def cannot_write(path: pathlib.Path, e: OSError) -> errors.UserError:
  """Returns the error for a file of the work directory that cannot be written."""
  full = e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
  fix = "Free space there" if full else "Make it a directory that can be written"
  return errors.UserError(
    f"cannot write {path}: {e.strerror or e}. {fix}, or name another --workdir."
  )


@contextlib.contextmanager
def claimed(workdir: pathlib.Path) -> Iterator[None]:
  """Keeps other trainings out of a work directory, until this one ends or is killed.

  Args:
    workdir: the directory; it is made if need be.

  Raises:
    UserError: another process trains there, or it cannot be written.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    lock = (workdir / "in_use").open("ab+", buffering=0)
  except OSError as e:
    raise cannot_write(workdir, e) from e
  with lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      lock.seek(0)
      holder = lock.read().decode().strip() or "another process"
      raise errors.UserError(
        f"--workdir={workdir} is in use: {holder} trains there. Wait for it or stop it,"
        " or name another --workdir."
      ) from None
    except OSError:  # a disk that has no locks
      yield
      return
    lock.truncate(0)
    with contextlib.suppress(OSError):  # the lock holds on a full disk, too
      lock.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    yield
    lock.truncate(0)


def check(workdir: pathlib.Path, identity: Mapping[str, Any], train_steps: int) -> None:
  """Checks that a run may start, or go on, in a directory; changes nothing.

  Args:
    workdir: the directory, which need not exist.
    identity: what must be the same at every start of a run.
    train_steps: length of the run.

  Raises:
    UserError: it cannot be written, holds another run, or has gone further.
  """
  exists = next(p for p in (workdir, *workdir.absolute().parents) if p.exists())
  if not exists.is_dir():
    raise errors.UserError(f"--workdir={workdir}: {exists} is a file, not a directory.")
  try:  # root may write where the permission bits say no, so try
    with tempfile.TemporaryFile(dir=exists) as f:
      f.write(b"t5tune" * 1000)
      f.flush()
  except OSError as e:
    raise cannot_write(workdir, e) from e
  folder = workdir / "checkpoints"
  if folder.exists() and not folder.is_dir():
    raise errors.UserError(f"{folder} is a file, not a directory: move it away.")
  file = workdir / "run.json"
  if not file.is_file():
    if folder.is_dir():
      raise errors.UserError(
        f"--workdir={workdir} has checkpoints but no run.json, so they cannot be"
        " matched with this configuration. Name a new --workdir."
      )
    return
  _compare(workdir, read_identity(file), json.loads(json.dumps(identity)))
  steps = [int(p.name) for p in workdir.glob("checkpoints/*") if p.name.isdigit()]
  if max(steps, default=0) > train_steps:
    raise errors.UserError(
      f"--workdir={workdir} is at step {max(steps)}, beyond the"
      f" {train_steps} steps of this one. Raise TRAIN_STEPS or TRAIN_EPOCHS to go on, or"
      " name a new --workdir."
    )


def check_model(workdir: pathlib.Path, identity: Mapping[str, Any]) -> None:
  """Checks that the checkpoints of a directory fit a model and vocabulary.

  Args:
    workdir: the directory of a run.
    identity: the same as for `check`; only 'model' and 'VOCABULARY' count.

  Raises:
    UserError: there is no run, or it has another architecture or vocabulary.
  """
  file = workdir / "run.json"
  if not file.is_file():
    raise errors.UserError(
      f"--workdir={workdir} holds no run (no run.json): name the directory of a"
      " training run."
    )
  before, now = read_identity(file), json.loads(json.dumps(identity))
  for values in (before, now):
    model = values.get("model", {})
    for part in (model, model.get("lora") or {}):
      part.pop("dropout_rate", None)  # of training alone
  keys = [k for k in ("model", "VOCABULARY") if k in before]
  _compare(workdir, {k: before[k] for k in keys}, {k: now[k] for k in keys})


def read_identity(file: pathlib.Path) -> dict[str, Any]:
  """Returns the content of a run.json.

  Raises:
    UserError: it is damaged.
  """
  try:
    return dict(json.loads(file.read_text(encoding="utf-8")))
  except OSError as e:
    raise errors.UserError(f"{file} cannot be read: {e.strerror}.") from e
  except (ValueError, TypeError) as e:
    raise errors.UserError(
      f"{file} is damaged ({e}), so its run cannot be matched with this"
      " configuration. Name a new --workdir."
    ) from e


def _compare(workdir, before: dict, now: dict) -> None:
  different = [
    f"  {name}: {old!r} there, {new!r} now"
    for name, old, new in _differences("", before, now)
  ]
  if different:
    raise errors.UserError(
      f"--workdir={workdir} holds a run with other settings:\n"
      + "\n".join(different)
      + "\nName a new --workdir, or set these back (its config.gin has them all)."
    )


def _differences(prefix: str, before: Any, now: Any):
  if isinstance(before, dict) and isinstance(now, dict):
    for key in sorted(before.keys() | now.keys()):
      name = f"{prefix}.{key}" if prefix else key
      yield from _differences(name, before.get(key), now.get(key))
  elif before != now:
    yield prefix, before, now


def changed_bindings(workdir: pathlib.Path, config_text: str) -> list[str]:
  """Returns the lines of config.gin that differ from this start's configuration."""
  file = workdir / "config.gin"
  if not file.is_file():
    return []
  return differing_bindings(file.read_text(), config_text)


def differing_bindings(before_text: str, now_text: str) -> list[str]:
  """Returns a line for each binding that differs between two configurations."""
  before, now = _bindings(before_text), _bindings(now_text)
  return [
    f"{name}: {now.get(name, 'unset')} (was {before.get(name, 'unset')})"
    for name in sorted(before.keys() | now.keys())
    if before.get(name) != now.get(name)
  ]


def _bindings(text: str) -> dict[str, str]:
  lines = (line.partition("  #")[0] for line in text.splitlines())
  pairs = (line.partition(" = ") for line in lines if " = " in line)
  return {name.strip(): value.strip() for name, _, value in pairs}


def model_identity(config: Any) -> dict[str, Any]:
  """Returns what of an architecture (`T5Config`) shapes or trains its parameters."""
  from t5tune.models import t5  # late: a report needs no model

  model = dataclasses.asdict(config)
  for how in t5.HOW:
    del model[how]
  return model


def vocabulary(workdir: pathlib.Path) -> pathlib.Path:
  """Returns where a run keeps a copy of its vocabulary."""
  return workdir / "spiece.model"


def begin(
  workdir: pathlib.Path,
  identity: Mapping[str, Any],
  config_text: str,
  vocabulary_path: pathlib.Path,
) -> None:
  """Makes the directory and writes `run.json`, `config.gin` and `spiece.model`."""
  write_atomically(workdir / "run.json", json.dumps(identity, indent=1) + "\n")
  write_atomically(workdir / "config.gin", config_text)
  write_atomically(vocabulary(workdir), vocabulary_path.read_bytes())

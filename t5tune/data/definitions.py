"""Definitions: the tasks and mixtures of SeqIO's registries that a run asks for.

Imports tensorflow late and hides the accelerators from it.
"""

import contextlib
import dataclasses
import functools
import importlib
import os
import pathlib
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from t5tune import errors
from t5tune.data import fingerprint, index, user_files, vocabularies

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
_one_import = threading.Lock()


def import_seqio():
  """Imports tensorflow and seqio, once, with no accelerator in their sight."""
  with _one_import:  # a second one would take the silence of the first for stderr
    return _import_seqio()


@functools.cache
def _import_seqio():
  with _silent_stderr():
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):
      tf.config.set_visible_devices([], "GPU")
      tf.config.set_visible_devices([], "TPU")
    import seqio

  return seqio


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
  """Drops what tensorflow's C++ says of CPUs and GPUs while it is imported.

  What Python prints, in this thread or another one, still comes through.
  """
  sys.stderr.flush()
  ours, kept = sys.stderr, os.dup(2)
  if _writes_to(2, ours):
    # Stays open: an imported module may keep what it finds here.
    how = {"encoding": ours.encoding, "errors": ours.errors}
    sys.stderr = open(os.dup(2), "w", buffering=1, **how)
  with open(os.devnull, "w") as nowhere:
    os.dup2(nowhere.fileno(), 2)
  try:
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
    sys.stderr = ours


def _writes_to(descriptor: int, file: Any) -> bool:
  try:
    return file.fileno() == descriptor
  except (AttributeError, OSError):  # in memory, as where a test or a notebook has it
    return False


def load(request: index.Request) -> list[tuple[Any, Callable[[], float]]]:
  """Returns the tasks that a request asks for, each with its rate; see `get_tasks`.

  Args:
    request: names the mixture, the modules that register it, where the rows lie and
      what applies to them.

  Raises:
    UserError: as `load_tasks` and `get_tasks`; or a setting names what is not there.
  """
  seqio = import_seqio()
  load_tasks(request.task_modules, request.data_dir)
  from t5tune.data import sources

  if request.files is not None:
    file_task = user_files.FileTask.from_json(request.files)
    importlib.import_module(user_files.TASK_MODULE).register(file_task)
  for folder in request.cache_dirs:
    if not os.path.isdir(folder):
      raise errors.UserError(
        f"run.Run.cache_dirs names {folder}, which is not a directory. Name the folder"
        " that seqio_cache_tasks wrote to."
      )
  known = seqio.get_global_cache_dirs()
  seqio.add_global_cache_dirs([d for d in request.cache_dirs if d not in known])
  sources.set_data_cap(request.data_cap)
  rated = get_tasks(request.mixture, request.named_by)
  sources.check_data_cap([task for task, _ in rated])
  return rated


def load_tasks(modules: Sequence[str], data_dir: str | os.PathLike | None) -> None:
  """Imports the modules that register tasks, and says where their data lies.

  Args:
    modules: module names, such as 't5tune.tasks.mixtures' or one of the user's.
    data_dir: folder of `<dataset>/<split>.jsonl`; None for the environment's.

  Raises:
    UserError: a module cannot be imported, or the folder does not exist.
  """
  import_seqio()
  from t5tune.data import sources

  if data_dir is not None and not pathlib.Path(data_dir).is_dir():
    raise errors.UserError(
      f"--data_dir={data_dir} is not a directory. Name the folder that holds"
      " <dataset>/<split>.jsonl, for example dialogsum/train.jsonl."
    )
  sources.set_data_dir(data_dir)
  if "" not in sys.path and os.getcwd() not in sys.path:
    sys.path.insert(0, os.getcwd())  # where a user's own module lies
  for module in modules:
    try:
      importlib.import_module(module)
    except errors.UserError:
      raise
    except Exception as e:
      names = [module.rsplit(".", i)[0] for i in range(module.count(".") + 1)]
      if isinstance(e, ModuleNotFoundError) and e.name in names:
        known = [
          *(p.stem for p in pathlib.Path().glob("*.py")),
          "t5tune.tasks.mixtures",
        ]
        near = errors.did_you_mean(module, known)
        raise errors.UserError(
          f"TASK_MODULES names {module!r}, which cannot be found.{near} Run where"
          f" {names[-1]}.py lies or put its folder on PYTHONPATH."
        ) from e
      raise errors.UserError(
        f"TASK_MODULES: importing {module} failed at {place_of(e)}:"
        f" {type(e).__name__}: {e.msg if isinstance(e, SyntaxError) else e}"
      ) from e
    fingerprint.count_as_own(module)


def place_of(e: Exception) -> str:
  """Returns file:line of the user's code that an exception comes from."""
  if isinstance(e, SyntaxError):
    return f"{e.filename}:{e.lineno}"
  frames = traceback.extract_tb(e.__traceback__)
  own = [f for f in frames if not fingerprint.is_library(f.filename)]
  return f"{own[-1].filename}:{own[-1].lineno}"


def get_tasks(
  name: str, named_by: str = "MIXTURE"
) -> list[tuple[Any, Callable[[], float]]]:
  """Returns the tasks of a mixture (or one task), each with its rate.

  Args:
    name: a mixture or task of SeqIO's registries.
    named_by: what names it, for messages.

  Returns:
    (seqio.Task, function giving its rate) by task name; a rate may count rows,
    so it is asked for only when needed.

  Raises:
    UserError: no such mixture or task.
  """
  seqio = import_seqio()
  if name in seqio.TaskRegistry.names():
    return [(seqio.TaskRegistry.get(name), lambda: 1.0)]
  if name not in seqio.MixtureRegistry.names():
    known = [*seqio.MixtureRegistry.names(), *seqio.TaskRegistry.names()]
    near = errors.did_you_mean(name, known)
    raise errors.UserError(
      f"{named_by} = {name!r} is neither a mixture nor a task of the modules loaded by"
      f" TASK_MODULES.{near} Registered: {', '.join(sorted(known)) or 'nothing'}."
    )
  mixture = seqio.MixtureRegistry.get(name)
  return [(t, functools.partial(mixture.get_rate, t)) for t in mixture.tasks]


def with_vocabulary(task, vocabulary: str | os.PathLike):
  """Returns a copy of a `seqio.Task` that uses the run's vocabulary."""
  missing = {"inputs", "targets"} - set(task.output_features)
  if missing:
    raise errors.UserError(
      f"task {task.name!r} has no output feature {sorted(missing)[0]!r}; a task of"
      " t5tune has 'inputs' and 'targets', as vocabularies.output_features() gives."
    )
  features = {
    name: dataclasses.replace(
      feature, vocabulary=vocabularies.seqio_vocabulary(vocabulary, escapes(feature))
    )
    for name, feature in task.output_features.items()
  }
  for feature in features.values():
    feature.vocabulary.check_escape()
  return task.replace(output_features=features)


def escapes(feature: Any) -> bool:
  """Returns whether a `seqio.Feature` escapes what its vocabulary lacks."""
  return getattr(feature.vocabulary, "escape", False)

"""The definition side: SeqIO's registries, and their pipelines run into stores.

    registered task -> rows -> template -> tokens -> token store

Runs tensorflow pipelines; imports tensorflow late and hides the accelerators from it.
"""

import contextlib
import dataclasses
import functools
import importlib
import math
import os
import pathlib
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from t5tune import errors
from t5tune.data import feed, fingerprint, index, token_store, vocabularies

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
_FORMAT = 1  # of a token store; part of its fingerprint


@functools.cache
def _seqio():
  """Imports tensorflow and seqio, once, with no accelerator in their sight."""
  with _silent_stderr():
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):
      tf.config.set_visible_devices([], "GPU")
      tf.config.set_visible_devices([], "TPU")
    import seqio

  return seqio


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
  """Drops what tensorflow's C++ says of CPUs and GPUs while it is imported."""
  sys.stderr.flush()
  kept = os.dup(2)
  with open(os.devnull, "w") as nowhere:
    os.dup2(nowhere.fileno(), 2)
  try:
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)


def load_tasks(modules: Sequence[str], data_dir: str | os.PathLike | None) -> None:
  """Imports the modules that register tasks, and says where their data lies.

  Args:
    modules: module names, such as 't5tune.tasks.mixtures' or one of the user's.
    data_dir: folder of `<dataset>/<split>.jsonl`; None for the environment's.

  Raises:
    UserError: a module cannot be imported, or the folder does not exist.
  """
  _seqio()
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
        f"TASK_MODULES: importing {module} failed at {_place(e)}:"
        f" {type(e).__name__}: {e.msg if isinstance(e, SyntaxError) else e}"
      ) from e
    fingerprint.count_as_own(module)


def _place(e: Exception) -> str:
  """Returns file:line of the user's code that an exception comes from."""
  if isinstance(e, SyntaxError):
    return f"{e.filename}:{e.lineno}"
  frames = traceback.extract_tb(e.__traceback__)
  own = [f for f in frames if not fingerprint.is_library(f.filename)]
  return f"{own[-1].filename}:{own[-1].lineno}"


def get_tasks(name: str) -> list[tuple[Any, Callable[[], float]]]:
  """Returns the tasks of a mixture (or one task), each with its rate.

  Args:
    name: a mixture or task of SeqIO's registries.

  Returns:
    (seqio.Task, function giving its rate) by task name; a rate may count rows,
    so it is asked for only when needed.

  Raises:
    UserError: no such mixture or task.
  """
  seqio = _seqio()
  if name in seqio.TaskRegistry.names():
    return [(seqio.TaskRegistry.get(name), lambda: 1.0)]
  if name not in seqio.MixtureRegistry.names():
    known = [*seqio.MixtureRegistry.names(), *seqio.TaskRegistry.names()]
    near = errors.did_you_mean(name, known)
    raise errors.UserError(
      f"MIXTURE = {name!r} is neither a mixture nor a task of the modules loaded by"
      f" TASK_MODULES.{near} Registered: {', '.join(sorted(known)) or 'nothing'}."
    )
  mixture = seqio.MixtureRegistry.get(name)
  return [(t, functools.partial(mixture.get_rate, t)) for t in mixture.tasks]


def prepare(
  request: index.Request,
  store_dir: pathlib.Path,
  progress: Callable[[Iterable, str, int | None], Iterable],
) -> index.PreparedMixture:
  """Builds the stores that a run lacks and writes the index of all it needs.

  Args:
    request: the data the run asks for.
    store_dir: folder of all stores.
    progress: see `build_store`.

  Returns:
    The prepared mixture, whose index `index.load` now finds.

  Raises:
    UserError: tasks, data or stores are at fault; see the functions called.
  """
  began = time.time()
  load_tasks(request.task_modules, request.data_dir)
  rated = get_tasks(request.mixture)
  for task, _ in rated:
    _code_fingerprint(task)  # before any pipeline runs
  build = functools.partial(
    build_store, request=request, store_dir=store_dir, progress=progress
  )
  tasks = []
  for task, rate in rated:
    passes = (str(build(task, "train", pass_index=0)),) if request.train else ()
    present = [s for s in request.splits if s in task.splits]
    splits = {s: str(build(task, s, pass_index=None)) for s in present}
    if present and not task.metric_fns:
      raise errors.UserError(
        f"task {task.name!r} has no metric_fns, so its split {present[0]!r} cannot be"
        " scored. Register it with metric_fns=[...]."
      )
    weight = float(rate()) if request.train else 0.0
    if request.train and not weight > 0:
      raise errors.UserError(
        f"MIXTURE = {request.mixture!r}: task {task.name!r} has rate {weight}. Give it"
        " a rate above 0, or leave it out of the mixture."
      )
    tasks.append(index.PreparedTask(task.name, weight, passes, splits))
  first = [[t.name, t.rate, [pathlib.Path(p).name for p in t.passes]] for t in tasks]
  mixture = index.PreparedMixture(
    request.mixture, tuple(tasks), fingerprint.digest(first)
  )
  if not any(task.splits for task in tasks):
    known = sorted({s for task, _ in rated for s in task.splits})
    raise errors.UserError(
      f"no task of {request.mixture!r} has a split {' or '.join(map(repr, request.splits))}"
      f" to evaluate; there is: {', '.join(known)}. Set EVAL_SPLIT and TEST_SPLIT."
    )
  if request.train:
    mixture = _with_further_passes(mixture, request, [t for t, _ in rated], build)
  files = [f for task, _ in rated for f in _data_files(task, request)]
  depends = index.dependencies(files)
  changed = [f for f in (*depends["code"], *files) if os.stat(f).st_mtime > began]
  if changed:
    raise errors.UserError(
      f"{changed[0]} was changed while its tokens were written. Start again."
    )
  index.save(index.path(store_dir, request), mixture, depends)
  return mixture


def _with_further_passes(mixture, request: index.Request, tasks, build):
  """Adds as many passes to each task as the run has epochs of it, up to the limit."""
  config = feed.FeedConfig(
    request.batch_size, *request.row_lengths, request.pack, request.seed
  )
  data = feed.Feed(mixture, config)
  steps = request.train_steps or math.ceil(request.train_epochs * data.steps_per_epoch)
  summary = data.summary(steps)
  extended = []
  for task, ready, share in zip(tasks, mixture.tasks, summary.tasks, strict=True):
    count = min(math.ceil(share.epochs), request.max_passes)
    more = [str(build(task, "train", pass_index=i)) for i in range(1, count)]
    passes = (*ready.passes, *more)
    sizes = [len(token_store.TokenStore(p)) for p in passes]
    if len(set(sizes)) > 1:
      raise errors.UserError(
        f"task {task.name!r} has {sizes[0]} examples in one pass and"
        f" {next(n for n in sizes if n != sizes[0])} in another: its preprocessors drop"
        " examples by what was drawn for them. Drop rows before drawing, or set"
        " run.Run.max_passes = 1."
      )
    extended.append(dataclasses.replace(ready, passes=passes))
  return dataclasses.replace(mixture, tasks=tuple(extended))


def _data_files(task, request: index.Request) -> list[pathlib.Path]:
  wanted = [*request.splits, *(["train"] if request.train else [])]
  splits = [s for s in wanted if s in task.splits]
  if hasattr(task.source, "files"):
    return [f for s in splits for f in task.source.files(s)]
  shards = [pathlib.Path(str(f)) for s in splits for f in task.source.list_shards(s)]
  return [f for f in shards if f.is_file()]


def build_store(
  task,
  split: str,
  pass_index: int | None,
  request: index.Request,
  store_dir: pathlib.Path,
  progress: Callable[[Iterable, str, int | None], Iterable],
) -> pathlib.Path:
  """Runs a task's SeqIO pipeline into a token store, unless it is there already.

  Args:
    task: a `seqio.Task`.
    split: the split to read.
    pass_index: which drawing of the templates; None for evaluation, which uses
      the first template and keeps the rows' other features.
    request: gives lengths, vocabulary and seed.
    store_dir: folder of all stores.
    progress: wraps the examples: (iterable, description, total) -> iterable.

  Returns:
    The store's directory.

  Raises:
    UserError: a row, field or template is wrong, or the store cannot be written.
  """
  name = store_fingerprint(task, split, request, pass_index)
  path = store_dir / "stores" / task.name / f"{split}-{name}"
  if not path.is_dir():
    with token_store.writing(path, keep_rows=pass_index is None) as writer:
      rows = _examples(task, split, request, pass_index)
      label = task.name if pass_index is None else f"{task.name}, pass {pass_index}"
      total = task.num_input_examples(split)
      for inputs, targets, row in progress(rows, f"{label} ({split})", total):
        writer.append(inputs, targets, row)
      if not len(writer):
        raise errors.UserError(
          f"task {task.name!r}, split {split!r}: its pipeline gave no example."
        )
      writer.manifest = {
        "task": task.name,
        "split": split,
        "pass": pass_index,
        "lengths": request.lengths,
        "vocabulary_sha256": fingerprint.file_digest(request.vocabulary),
        "seed": request.seed,
        "versions": fingerprint.versions(),
      }
  return path


def store_fingerprint(
  task, split: str, request: index.Request, pass_index: int | None
) -> str:
  """Names all that shapes a store's content: rows, code, vocabulary, lengths, draws."""
  source = task.source
  if hasattr(source, "identity"):
    rows = source.identity(split)
  else:
    shards = [str(s) for s in source.list_shards(split)]
    stats = [os.stat(s) for s in shards if os.path.exists(s)]
    rows = [source, shards, [[s.st_size, s.st_mtime_ns] for s in stats]]
  return fingerprint.digest(
    _FORMAT,
    rows,
    _code_fingerprint(task),
    fingerprint.file_digest(request.vocabulary),
    request.lengths,
    None if pass_index is None else [request.seed, pass_index],
    fingerprint.versions()["seqio"],
  )


@functools.cache
def _code_fingerprint(task) -> str:
  """Names a task's pipeline as it stood when first asked, before caches were filled."""
  return fingerprint.digest(
    task._preprocessor_constructor_args,  # the functions, before SeqIO wraps them
    {k: [f.add_eos, str(f.dtype)] for k, f in task.output_features.items()},
  )


def _examples(
  task, split: str, request: index.Request, pass_index: int | None
) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, Any]]]:
  """Yields (inputs, targets, other features) of a task's examples, in row order."""
  from t5tune.data import templates

  task = with_vocabulary(task, request.vocabulary)
  if pass_index is None:
    drawing = templates.first()
  else:
    drawing = templates.drawing(pass_index=pass_index, seed=request.seed)
  try:
    with drawing:
      dataset = task.get_dataset(
        sequence_length=request.lengths, split=split, shuffle=False, seed=request.seed
      )
    for example in dataset.as_numpy_iterator():
      row = {k: _plain(v) for k, v in example.items() if k not in request.lengths}
      for name, feature in task.output_features.items():
        if f"{name}_pretokenized" not in row:  # of a pipeline that drops its text
          text = feature.vocabulary.decode(example[name].tolist())
          row[f"{name}_pretokenized"] = text
      yield example["inputs"], example["targets"], row
  except errors.UserError:
    raise
  except Exception as e:
    # tensorflow's message ends with the graph's own traceback: keep the cause.
    cause = next((line for line in str(e).splitlines() if line.strip()), "")
    raise errors.UserError(
      f"task {task.name!r}, split {split!r}: its pipeline failed:"
      f" {type(e).__name__}: {cause}"
    ) from e


def with_vocabulary(task, vocabulary: str | os.PathLike):
  """Returns a copy of a `seqio.Task` that uses the run's vocabulary."""
  missing = {"inputs", "targets"} - set(task.output_features)
  if missing:
    raise errors.UserError(
      f"task {task.name!r} has no output feature {sorted(missing)[0]!r}; a task of"
      " t5tune has 'inputs' and 'targets', as vocabularies.output_features() gives."
    )
  loaded = vocabularies.seqio_vocabulary(vocabulary)
  features = {
    name: dataclasses.replace(feature, vocabulary=loaded)
    for name, feature in task.output_features.items()
  }
  return task.replace(output_features=features)


def _plain(value: Any) -> Any:
  """Turns a numpy feature into a JSON value."""
  if isinstance(value, bytes):
    return value.decode("utf-8", "replace")
  if isinstance(value, np.ndarray):
    return [_plain(v) for v in value.tolist()] if value.ndim else _plain(value.item())
  if isinstance(value, np.generic):
    return _plain(value.item())
  return value

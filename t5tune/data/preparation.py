"""Preparation: which stores a run needs, and their writing with all cores.

A store is the same whoever writes it, and appears only when it is complete; so any
number of processes may share the work, or do it twice.
"""

import dataclasses
import functools
import math
import os
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

from t5tune import errors
from t5tune.data import (
  definitions,
  feed,
  fingerprint,
  index,
  pipelines,
  row_lengths,
  store_names,
  token_store,
  workers,
)
from t5tune.data.pipelines import Job

# Rows worth the seven seconds in which another process imports tensorflow.
_ROWS_A_WORKER = 10_000


def prepare(
  request: index.Request,
  store_dir: pathlib.Path,
  progress: workers.Progress,
  processes: int | None = None,
) -> index.PreparedMixture:
  """Builds the stores that a run lacks and writes the index of all it needs.

  Args:
    request: the data the run asks for.
    store_dir: folder of all stores.
    progress: shows how far the writing is.
    processes: most processes that write stores; None for one a core.

  Returns:
    The prepared mixture, whose index `index.load` now finds.

  Raises:
    UserError: tasks, data or stores are at fault; see the functions called.
  """
  store_dir = store_dir.absolute()  # runs keep the stores' paths
  rated = definitions.load(request)
  tasks = {task.name: task for task, _ in rated}
  data = [f for task in tasks.values() for f in _data_files(task, request)]
  stamps = pipelines.stamped([*fingerprint.own_code_files(), *data])
  _check_request(list(tasks.values()), request)
  for task in tasks.values():
    store_names.code_fingerprint(task)  # before any pipeline runs
  write = functools.partial(
    _write_missing, request=request, progress=progress, processes=processes, tasks=tasks
  )
  rates = _rates(rated, request) if request.train else dict.fromkeys(tasks, 0.0)
  # Every store of the first round, by what it is for.
  job = functools.partial(pipelines.job, request=request, store_dir=store_dir)
  wanted: dict[tuple, Job] = {}
  for task in tasks.values():
    if request.train:
      wanted[task.name, "train"] = job(task, "train", pass_index=0)
    for split, names in _scored(task, request).items():
      for name in names:
        wanted[task.name, split, name] = job(task, split, template=name)
  write(list(wanted.values()))
  mixture = _mixture(request, list(tasks.values()), rates, wanted)
  if request.train:
    lengths = request.row_lengths or row_lengths.choose_row_lengths(
      mixture,
      (request.input_length, request.target_length),
      request.row_tokens,
      request.seed,
    )
    mixture = dataclasses.replace(mixture, row_lengths=lengths)
    mixture = _with_further_passes(mixture, request, tasks, job, write)
  files = [f for task in tasks.values() for f in _data_files(task, request)]
  own = [task for task in tasks.values() if _has_splits_by_file(task)]
  folders = {f.parent for task in own for f in _data_files(task, request)}
  depends = index.dependencies(files, folders)
  pipelines.check_unchanged(stamps)
  index.save(index.path(store_dir, request), mixture, depends)
  return mixture


def _check_request(tasks: Sequence[Any], request: index.Request) -> None:
  """Raises a UserError where a setting names a template or split that no task has."""
  from t5tune.data import templates

  own = {t.name: templates.of_task(t) for t in tasks}
  names = {x.name for forms in own.values() for x in forms}
  tags = {tag for forms in own.values() for x in forms for tag in x.tags}
  qualified = {f"{name}/{x.name}" for name, forms in own.items() for x in forms}
  for entry in request.held_out_templates:
    task, _, called = entry.rpartition("/")
    concerned = [x for name, forms in own.items() for x in forms if task in ("", name)]
    if not any(x.is_called([called]) for x in concerned):
      near = errors.did_you_mean(entry, names | tags | qualified)
      raise errors.UserError(
        f"HELD_OUT_TEMPLATES names {entry!r}, which is neither a template nor a tag of"
        f" {request.mixture!r}.{near} Tags: {', '.join(sorted(tags))}; templates:"
        f" {', '.join(sorted(names))}."
      )
  asked = request.eval_template
  scorable = {n for forms in own.values() for n in _scorable(forms)}
  known = scorable | {f"{t}/{n}" for t, forms in own.items() for n in _scorable(forms)}
  if asked not in (None, "all") and asked not in known:
    raise errors.UserError(
      f"EVAL_TEMPLATE = {asked!r}: no task of {request.mixture!r} has a template of"
      " this name with the targets that its scores are made for."
      f"{errors.did_you_mean(asked, known)} There is: 'all',"
      f" {', '.join(sorted(scorable))}."
    )
  if not any(split in task.splits for task in tasks for split in request.splits):
    known = sorted({s for task in tasks for s in task.splits})
    raise errors.UserError(
      f"no task of {request.mixture!r} has a split"
      f" {' or '.join(map(repr, request.splits))} to evaluate; there is:"
      f" {', '.join(known)}. Set EVAL_SPLIT and TEST_SPLIT."
    )


def _rates(rated: Sequence[tuple[Any, Callable]], request) -> dict[str, float]:
  """Returns the rate of each task by name."""
  rates = {}
  for task, rate in rated:
    try:
      rates[task.name] = float(rate())
    except errors.UserError:
      raise
    except Exception as e:  # whatever a function of the user's raises
      raise errors.UserError(
        f"MIXTURE = {request.mixture!r}: the rate of task {task.name!r} failed:"
        f" {type(e).__name__}: {e}. A rate is a number, or a function from the task to"
        " one; to count its rows, give its source num_input_examples."
      ) from e
    if not 0 < rates[task.name] < math.inf:
      raise errors.UserError(
        f"MIXTURE = {request.mixture!r}: task {task.name!r} has rate"
        f" {rates[task.name]}. Give it a finite rate above 0, or leave it out of the"
        " mixture."
      )
  return rates


def _scored(task: Any, request: index.Request) -> dict[str, list[str | None]]:
  """Returns the splits of a task to evaluate, each with its templates.

  The first template, or the one that is asked for, comes first; None stands for the
  first, so that every run shares its store.
  """
  from t5tune.data import templates

  present = [s for s in request.splits if s in task.splits]
  if present and not task.metric_fns:
    raise errors.UserError(
      f"task {task.name!r} has no metric_fns, so its split {present[0]!r} cannot be"
      " scored. Register it with metric_fns=[...]."
    )
  names = _scorable(templates.of_task(task))
  asked = request.eval_template
  if asked == "all":
    # The scores before and after come from the last split there is.
    return {s: [None, *(names[1:] if s == present[-1] else ())] for s in present}
  own = asked.removeprefix(f"{task.name}/") if asked else None
  return {s: [own if own in names[1:] else None] for s in present}


def _scorable(forms: Sequence[Any]) -> list[str]:
  """Returns the names of the templates that ask for what the first one asks for."""
  return [t.name for t in forms if t.targets == forms[0].targets]


def _mixture(
  request: index.Request,
  tasks: Sequence[Any],
  rates: dict[str, float],
  wanted: dict[tuple, Job],
) -> index.PreparedMixture:
  """Returns what the first round of stores makes up."""
  from t5tune.data import templates

  made = []
  for task in tasks:
    own = {key[1:]: job.path for key, job in wanted.items() if key[0] == task.name}
    passes = (own.pop(("train",)),) if request.train else ()
    splits: dict[str, str] = {}
    variants: dict[str, dict[str, str]] = {}
    for (split, name), path in own.items():
      splits.setdefault(split, path)
      if request.eval_template == "all":
        forms = templates.of_task(task)
        called = name or (forms[0].name if forms else "")
        variants.setdefault(split, {})[called] = path
    variants = {s: v for s, v in variants.items() if len(v) > 1}
    made.append(
      index.PreparedTask(task.name, rates[task.name], passes, splits, variants)
    )
  first = [[t.name, t.rate, [pathlib.Path(p).name for p in t.passes]] for t in made]
  named = fingerprint.digest(first)
  return index.PreparedMixture(request.mixture, tuple(made), named)


def _with_further_passes(mixture, request: index.Request, tasks, job, write):
  """Adds as many passes to each task as the run has epochs of it, up to the limit."""
  config = feed.FeedConfig(
    request.batch_size, *mixture.row_lengths, request.pack, request.seed
  )
  data = feed.Feed(mixture, config)
  steps = request.train_steps or math.ceil(request.train_epochs * data.steps_per_epoch)
  epochs = {share.name: share.epochs for share in data.summary(steps).tasks}
  jobs = {
    name: [
      job(task, "train", pass_index=i)
      for i in range(1, min(math.ceil(epochs[name]), _most_passes(task, request)))
    ]
    for name, task in tasks.items()
  }
  write([j for own in jobs.values() for j in own])
  extended = []
  for task in mixture.tasks:
    passes = (*task.passes, *(j.path for j in jobs[task.name]))
    sizes = [len(token_store.TokenStore(p)) for p in passes]
    if len(set(sizes)) > 1:
      raise errors.UserError(
        f"task {task.name!r} has {sizes[0]} examples in one pass and"
        f" {next(n for n in sizes if n != sizes[0])} in another: its preprocessors drop"
        " examples by what was drawn for them. Drop rows before drawing, or set"
        " run.Run.max_passes = 1."
      )
    extended.append(dataclasses.replace(task, passes=passes))
  return dataclasses.replace(mixture, tasks=tuple(extended))


def _most_passes(task, request: index.Request) -> int:
  """Returns how many passes of a task may differ, up to the limit."""
  from t5tune.data import templates

  held_out = store_names.held_out(task, request)
  drawn = [t for t in templates.of_task(task) if not t.is_called(held_out)]
  same = len(drawn) == 1 and templates.draws_nothing_else(task)
  return 1 if same else request.max_passes


def _has_splits_by_file(task) -> bool:
  """Returns whether a file that appears beside a task's own is another split of it."""
  from t5tune.data import sources

  return isinstance(task.source, sources.RowSource)


def _data_files(task, request: index.Request) -> list[pathlib.Path]:
  wanted = [*request.splits, *(["train"] if request.train else [])]
  splits = dict.fromkeys(s for s in wanted if s in task.splits)
  return [f for s in splits for f in store_names.data_files(task, s)]


def _write_missing(
  jobs: Sequence[Job],
  request: index.Request,
  progress: workers.Progress,
  processes: int | None,
  tasks: dict[str, Any],
) -> None:
  """Writes the stores that are not there, or are damaged, the largest first."""
  missing = {job.path: job for job in jobs if not _is_whole(job.path)}
  todo = sorted(missing.values(), key=lambda j: j.rows or 0, reverse=True)
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
  rows = sum(job.rows or 0 for job in todo)
  count = min(processes or cores, len(todo), 1 + rows // _ROWS_A_WORKER)
  if count > 1:
    workers.write(todo, request, progress, count)
    return
  for job in todo:
    progress.begin(job)
    advance = functools.partial(progress.advance, job, 1)
    pipelines.write(tasks[job.task], job, request, advance)


def _is_whole(path: str) -> bool:
  """Returns whether a store is there; one that cannot be opened is removed."""
  if not os.path.isdir(path):
    return False
  try:
    token_store.TokenStore(path)
  except errors.UserError:
    shutil.rmtree(path, ignore_errors=True)
    return False
  return True

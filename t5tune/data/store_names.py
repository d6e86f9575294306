"""Store names: a token store is found again by all that shaped it."""

import functools
import os
import pathlib
from typing import Any

from t5tune.data import definitions, escape, fingerprint, index, store_manifest


def store_fingerprint(
  task, split: str, request: index.Request, pass_index: int | None, template: str | None
) -> str:
  """Names all that shapes a store's content: rows, code, vocabulary, lengths, draws.

  Args:
    task: a `seqio.Task`.
    split: the split that is read.
    request: gives lengths, vocabulary, seed and what is held out.
    pass_index: which drawing of the templates; None for evaluation.
    template: the template that evaluation uses; None for the first.
  """
  source, cached = task.source, _cache_files(task)
  if cached is not None:
    rows = cached
  elif hasattr(source, "identity"):
    rows = source.identity(split)
  else:
    shards = [str(s) for s in source.list_shards(split)]
    stats = [os.stat(f) for f in data_files(task, split)]
    rows = [source, shards, [[s.st_size, s.st_mtime_ns] for s in stats]]
  if pass_index is None:
    drawn = template
  else:
    drawn = [request.seed, pass_index, held_out(task, request)]
  return fingerprint.digest(
    store_manifest.FORMAT,
    rows,
    code_fingerprint(task),
    fingerprint.file_digest(request.vocabulary),
    request.lengths,
    drawn,
    fingerprint.versions()["seqio"],
  )


@functools.cache
def code_fingerprint(task) -> str:
  """Names a task's pipeline as it stood when first asked, before caches were filled."""
  features = task.output_features.items()
  return fingerprint.digest(
    task._preprocessor_constructor_args,  # the functions, before SeqIO wraps them
    {
      k: [f.add_eos, str(f.dtype), definitions.escapes(f) and escape.Escaper]
      for k, f in features
    },
  )


def _cache_files(task) -> list[list[Any]] | None:
  """Returns the files of a task's offline cache, or None where it has none."""
  folder = cache_dir(task)
  if folder is None:
    return None
  files = sorted(pathlib.Path(folder).iterdir())
  return [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files]


def data_files(task: Any, split: str) -> list[pathlib.Path]:
  """Returns the files that a split is read from, as far as they are known.

  Args:
    task: a `seqio.Task`.
    split: the split.
  """
  if cache := cache_dir(task):
    return [f for f in pathlib.Path(cache).iterdir() if f.is_file()]
  if hasattr(task.source, "files"):
    return list(task.source.files(split))
  # A source that is no file names its split.
  shards = [str(s) for s in task.source.list_shards(split) if s != split]
  return [pathlib.Path(s) for s in shards if os.path.isfile(s)]


def cache_dir(task) -> str | None:
  """Returns the folder of a task's offline cache of SeqIO's, or None."""
  return task.cache_dir if task.supports_caching else None


def held_out(task: Any, request: index.Request) -> tuple[str, ...]:
  """Returns which of the request's held out names and tags concern a task.

  Args:
    task: a `seqio.Task`.
    request: `held_out_templates` are names or tags, 'task/name' for one task's.
  """
  from t5tune.data import templates

  concerned = []
  for entry in request.held_out_templates:
    name, _, own = entry.rpartition("/")
    if name in ("", task.name) and any(
      t.is_called([own]) for t in templates.of_task(task)
    ):
      concerned.append(own)
  return tuple(sorted(set(concerned)))

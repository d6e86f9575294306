"""From one format to another: read, write aside, verify, then give the name."""

import contextlib
import dataclasses
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from rich import progress as rich_progress
from rich.console import Console

from t5tune import errors
from t5tune.training import checkpoint_files
from t5tune.weights import (
  hf_export,
  model_card,
  peft,
  pretrained,
  t5x,
  t5x_native,
  verification,
  workdirs,
)


def convert(
  source: str,
  destination: pathlib.Path,
  to: str,
  dtype: str,
  max_shard_size: int,
  vocabulary: str | None,
  vocabulary_size: Callable[[pathlib.Path], int],
  base: str | None = None,
) -> None:
  """Converts a checkpoint; the result appears under its name only when complete.

  Args:
    source: see `pretrained.open_weights`.
    destination: a directory that does not exist.
    to: 'hf', 't5x' or 't5tune'; of a run with LoRA its weights are merged. Or 'peft',
      for its factors alone.
    dtype: dtype of the tensors written.
    max_shard_size: bytes of a file of weights ('hf').
    vocabulary: a SentencePiece model in place of the one beside the source, or None.
    vocabulary_size: gives the ids of a SentencePiece model.
    base: where the weights lie that a run with LoRA was trained on; None for where they
      were then.

  Raises:
    UserError: the source cannot be read, the destination exists, or there is no space.
  """
  if destination.exists() or destination.is_symlink():
    raise errors.UserError(f"{destination} is there already; name a new directory.")
  if base is not None and not _has_base(source):
    raise errors.UserError(
      f"--base={base} goes with a run with LoRA, or an adapter; {source} is neither."
    )
  if to == "peft":
    _write_adapter(source, destination, dtype, base)
    return
  opened = pretrained.open_weights(source, "SRC", base)
  if opened is None:
    raise errors.UserError("'scratch' holds no weights; name a checkpoint.")
  if vocabulary is not None:
    opened = dataclasses.replace(opened, vocabulary=_vocabulary(vocabulary))
  if opened.vocabulary is not None:
    size, rows = vocabulary_size(opened.vocabulary), opened.config.vocab_size
    if size > rows:
      raise errors.UserError(
        f"{opened.vocabulary} has {size} ids, {opened.origin} {rows} rows of embedding:"
        " that is not its vocabulary. Name the right one with --vocabulary."
      )
  if to == "t5x":
    t5x_native.check_writable(opened)
  console = Console()
  with _made_whole(destination, _size(opened.shapes.values(), dtype)) as folder:
    with _progress(console, f"writing {to}") as progress:
      if to == "hf":
        hf_export.write(opened, folder, dtype, max_shard_size, progress)
      elif to == "t5x":
        t5x.write_native(opened, folder, dtype, progress)
        if opened.vocabulary:
          shutil.copyfile(opened.vocabulary, folder / "spiece.model")
      else:
        workdirs.write(opened, folder, progress)
    if to == "hf":
      check = verification.compare(opened, folder, dtype)
      path = pathlib.Path(source).expanduser()
      run = workdirs.root(path) if workdirs.is_workdir(path) else None
      model_card.write(folder, destination.name, opened, check, run)
      console.print(
        f"read back: logits differ by at most {check['difference']:.3g} at a scale of"
        f" {check['scale']:.3g}",
        highlight=False,
        markup=False,
      )
  console.print(
    f"{opened.origin} -> {destination}", highlight=False, markup=False, soft_wrap=True
  )
  if opened.vocabulary is None:
    console.print(
      "There was no SentencePiece model beside the source, so none was written: see"
      " --vocabulary.",
      highlight=False,
      soft_wrap=True,
    )


def _has_base(source: str) -> bool:
  """Whether a source holds factors alone, and what they belong to lies elsewhere."""
  path = pathlib.Path(source).expanduser()
  if workdirs.is_workdir(path):
    return workdirs.architecture(workdirs.root(path)).lora is not None
  return peft.is_directory(path)


def _write_adapter(
  source: str, destination: pathlib.Path, dtype: str, base: str | None
) -> None:
  """Writes the factors of a run with LoRA as PEFT keeps them."""
  path = pathlib.Path(source).expanduser()
  if not workdirs.is_workdir(path):
    raise errors.UserError(
      f"--to peft takes the work directory of a run with LoRA; {source} is none."
    )
  adapter = workdirs.open_adapter(path)
  if base is not None:
    adapter = dataclasses.replace(adapter, init=base)
  size = _size(adapter.shapes(), dtype)
  console = Console()
  with (
    _made_whole(destination, size) as folder,
    _progress(console, "writing peft") as progress,
  ):
    peft.write(adapter, folder, dtype, progress)
  console.print(
    f"{adapter.origin} -> {destination}", highlight=False, markup=False, soft_wrap=True
  )


def _vocabulary(name: str) -> pathlib.Path:
  path = pathlib.Path(name)
  if not path.is_file():
    raise errors.UserError(f"--vocabulary={name}: there is no such file.")
  return path


def _size(shapes: Iterable[tuple[int, ...]], dtype: str) -> int:
  """Returns the bytes that tensors of these shapes take."""
  return sum(int(np.prod(shape)) for shape in shapes) * hf_export.DTYPES[dtype].itemsize


@contextlib.contextmanager
def _made_whole(destination: pathlib.Path, size: int) -> Iterator[pathlib.Path]:
  """Gives a folder to write `size` bytes to, and the destination's name at the end."""
  parent = destination.absolute().parent
  try:
    parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(parent).free
    if free < size:
      raise errors.UserError(
        f"{parent} has {free / 1e9:.1f} GB free, the result takes {size / 1e9:.1f} GB."
        " Free space there, or name another place."
      )
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=parent))
    try:
      folder = scratch / destination.name
      folder.mkdir()
      yield folder
      folder.rename(destination)
    finally:
      for _ in range(100):  # what failed to write may still be at it in the background
        shutil.rmtree(scratch, ignore_errors=True)
        if not scratch.exists():
          break
        time.sleep(0.05)
  except Exception as e:  # tensorstore and orbax have kinds of their own
    if isinstance(e, errors.UserError) or not checkpoint_files.is_disk_error(e):
      raise
    reason = getattr(e, "strerror", None) or str(e).splitlines()[0]
    raise errors.UserError(
      f"cannot write {destination}: {reason}. Nothing is left of it; free space there,"
      " or name another place."
    ) from e


@contextlib.contextmanager
def _progress(console: Console, label: str) -> Iterator[Callable[[int, int], None]]:
  """Gives a function that shows (tensors done, tensors in all) as a bar."""
  columns = (
    rich_progress.TextColumn("{task.description}"),
    rich_progress.BarColumn(bar_width=24),
    rich_progress.MofNCompleteColumn(),
    rich_progress.TextColumn("tensors"),
    rich_progress.TimeRemainingColumn(),
  )
  disable = not sys.stdout.isatty()
  if disable:
    console.print(label, highlight=False)
  with rich_progress.Progress(*columns, console=console, disable=disable) as bar:
    task = bar.add_task(label, total=None)
    yield lambda done, total: bar.update(task, completed=done, total=total)

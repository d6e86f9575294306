"""A process of its own that builds stores: `python -m t5tune.data.build`.

The trainer starts it when stores are missing, so that reading data brings no
tensorflow into the training process, and tensorflow sees no accelerator.
"""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterable

from t5tune import errors
from t5tune.data import index


def ensure(request: index.Request, store_dir: pathlib.Path) -> index.PreparedMixture:
  """Returns the prepared mixture of a request, building what is missing.

  Args:
    request: the data a run asks for.
    store_dir: folder of all stores.

  Raises:
    SystemExit: the building process failed, after printing why.
    UserError: it was killed, or what it read was changed while it did.
  """
  file = index.path(store_dir, request)
  prepared = index.load(file)
  if prepared is None:
    flags = [json.dumps(request.to_json()), str(store_dir)]
    # Accelerators stay with the trainer.
    environment = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
      [sys.executable, "-m", "t5tune.data.build", *flags],
      env={**os.environ, **environment},
      check=False,
    )
    prepared = index.load(file)
    if done.returncode < 0:
      raise errors.UserError(
        f"the process that builds token stores was killed by signal {-done.returncode}"
        " (9: perhaps for want of memory). Complete stores are kept: start again."
      )
    if done.returncode:
      raise SystemExit(done.returncode)
    if prepared is None:
      raise errors.UserError(
        f"{file} is out of date as soon as it was written: data or code changed"
        " meanwhile. Start again."
      )
  return prepared


def _progress(examples: Iterable, description: str, total: int | None) -> Iterable:
  from rich import progress

  columns = (
    progress.TextColumn("preparing {task.description}"),
    progress.BarColumn(bar_width=24),
    progress.MofNCompleteColumn(),
    progress.TimeRemainingColumn(),
  )
  if not sys.stdout.isatty():
    print(f"preparing {description}: {total or '?'} rows", flush=True)
    yield from examples
    return
  with progress.Progress(*columns) as bar:
    yield from bar.track(examples, total=total, description=description)


def main(arguments: list[str]) -> int:
  """Builds the stores of a request (JSON) under a folder; returns the exit status."""
  try:
    from t5tune.data import definitions

    request = index.Request.from_json(json.loads(arguments[0]))
    definitions.prepare(request, pathlib.Path(arguments[1]), _progress)
  except errors.UserError as e:
    print(f"error: {e}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    return 130
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))

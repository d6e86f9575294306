"""What a run evaluates: the mixture it trains on, or another, as EVAL_MIXTURE says."""

import dataclasses
import pathlib

from t5tune import processes
from t5tune.data import build, index


@dataclasses.dataclass(frozen=True)
class Scored:
  """A mixture that is evaluated.

  Attributes:
    request: the data asked for; names the modules that define the tasks.
    mixture: the same, prepared.
  """

  request: index.Request
  mixture: index.PreparedMixture


def prepare(
  name: str | None,
  request: index.Request,
  mixture: index.PreparedMixture,
  store_dir: pathlib.Path,
  workers: int | None = None,
) -> Scored:
  """Returns what is evaluated, building token stores that are missing.

  Args:
    name: EVAL_MIXTURE: a SeqIO mixture or task, or None for the training's own.
    request: the data that the training asks for.
    mixture: the same, prepared.
    store_dir: folder of all stores.
    workers: most processes that write stores; None for one a core.

  Raises:
    SystemExit: the building process failed, after printing why.
  """
  if name is None:
    return Scored(request, mixture)
  # What shapes training alone is left out: runs of any length share one index.
  asked = dataclasses.replace(
    request,
    mixture=name,
    named_by="EVAL_MIXTURE",
    train=False,
    train_steps=None,
    train_epochs=None,
    batch_size=1,
    row_lengths=None,
    row_tokens=None,
    max_passes=1,
    held_out_templates=(),
    data_cap=None,
  )
  found = processes.in_turns(
    "token stores to score", lambda: build.ensure(asked, store_dir, workers)
  )
  # The tasks that train bring their training rows, for the baselines.
  trained = {task.name: task for task in mixture.tasks}
  tasks = tuple(trained.get(task.name, task) for task in found.tasks)
  return Scored(asked, dataclasses.replace(found, tasks=tasks))

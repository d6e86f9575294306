"""The task of a user's own files: what `t5tune.data.user_files.FileTask` describes.

Importing this module registers the tasks that ship, which a run may replay; `register`
adds that of a run's files.
"""

import functools
from collections.abc import Callable, Sequence

import seqio
from t5tune.tasks import mixtures

from t5tune.data import (
  cutting,
  file_formats,
  file_source,
  postprocessors,
  registration,
  templates,
  user_files,
)
from t5tune.errors import UserError, did_you_mean
from t5tune.evaluation import rouge, text_metrics

# What was registered, by name.
_registered: dict[str, user_files.FileTask] = {}


def register(task: user_files.FileTask) -> seqio.Task:
  """Registers a task, and with replay its mixture, `user_files.mixture`.

  Args:
    task: the settings. Registered again, the same ones change nothing and other ones
      take the place of those before.

  Returns:
    The task.

  Raises:
    UserError: a file, metric or mixture is not there, or the name is taken.
  """
  chosen = [_metric(name, task) for name in task.metrics]
  task.check_files()
  if _registered.get(task.name) == task:
    return seqio.TaskRegistry.get(task.name)
  _remove(task.name)
  taken = {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}
  mixture = user_files.mixture(task.name, task.replay)
  for name in sorted({task.name, mixture} & taken):
    raise UserError(
      f"TASK_NAME = {task.name!r}: {name!r} is already a task or mixture of"
      " TASK_MODULES. Give another name."
    )
  if task.replay is not None:
    _check_replay(task.replay)
  inputs, targets = map(user_files.unescaped, (task.inputs, task.targets))
  made = registration.add(
    task.name,
    file_source.FileSource(task),
    [templates.Template(task.name, inputs, targets)],
    cut=_cut(task),
    escape=task.escape,
    postprocess_fn=references if task.references else stripped,
    metric_fns=chosen,
  )
  _registered[task.name] = task
  if task.replay is not None:
    rates = mixtures.replay([task.name], task.replay, task.replay_share)
    seqio.MixtureRegistry.add(mixture, rates)
  return made


def _cut(task: user_files.FileTask) -> cutting.Cut | None:
  if task.cut is None:
    return None
  try:
    column, place = task.cut
    return cutting.Cut(column, place)
  except (UserError, ValueError) as error:
    raise UserError(
      f"CUT = {list(task.cut)}: give a column of INPUTS and one of"
      f" {', '.join(cutting.PLACES)}, such as ['dialogue', 'start']."
    ) from error


def _remove(name: str) -> None:
  before = _registered.pop(name, None)
  if before is not None:
    seqio.TaskRegistry.remove(name)
    if before.replay is not None:
      seqio.MixtureRegistry.remove(user_files.mixture(name, before.replay))


def _check_replay(name: str) -> None:
  known = seqio.MixtureRegistry.names()
  if name not in known:
    raise UserError(
      f"REPLAY = {name!r} is no mixture of TASK_MODULES.{did_you_mean(name, known)}"
      f" There is: {', '.join(sorted(known))}."
    )


def stripped(text: str, example: postprocessors.Row = None, is_target: bool = False):
  """Returns a text, output or target, without the white space around it."""
  return postprocessors.from_field(
    text, example, is_target, name="targets_pretokenized"
  )


def references(
  text: str, example: postprocessors.Row = None, is_target: bool = False
) -> str | list[str]:
  """Returns an output without white space around it; for a target, all references."""
  first = stripped(text, example, is_target)
  if not is_target:
    return first
  further = postprocessors.field(example, file_formats.REFERENCES) or []
  return [first, *(text.strip() for text in further)]


def _read_first(metric: Callable, read: Callable[[str], object]) -> Callable:
  """Returns a metric over texts that are read by a postprocessor first."""

  @functools.wraps(metric)
  def over_texts(targets: Sequence[str], predictions: Sequence[str]):
    return metric([read(t) for t in targets], [read(p) for p in predictions])

  return over_texts


def _rated(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
  """Mean distance between ratings of 1 to 5 stars."""
  read = postprocessors.stars
  for target in targets:
    if read(target) is None:
      raise UserError(
        f"METRICS: 'star_error' needs targets that state 1 to 5; there is {target!r}."
      )
  return text_metrics.star_error(
    [read(t) for t in targets], [read(p) for p in predictions]
  )


METRICS = {
  "rouge": rouge.rouge,
  "bleu": text_metrics.bleu,
  "exact_match": text_metrics.exact_match,
  "accuracy": text_metrics.accuracy,
  "answer_accuracy": _read_first(
    text_metrics.answer_accuracy, postprocessors.final_answer
  ),
  "star_error": _rated,
  "entity_f1": _read_first(text_metrics.entity_f1, postprocessors.entities),
}
# These compare with several references.
SEVERAL = ("rouge",)


def _metric(name: str, task: user_files.FileTask) -> Callable:
  if name not in METRICS:
    raise UserError(
      f"METRICS: there is no metric {name!r}.{did_you_mean(name, METRICS)} There is:"
      f" {', '.join(METRICS)}."
    )
  if task.references and name not in SEVERAL:
    raise UserError(
      f"METRICS: {name!r} compares with one reference, and REFERENCES gives more. Use"
      f" {' or '.join(SEVERAL)}, or leave REFERENCES out."
    )
  return METRICS[name]

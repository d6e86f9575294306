"""Task descriptions: what registered tasks and mixtures say of themselves.

Of the definition side: imports tensorflow and seqio.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import seqio

from t5tune import errors
from t5tune.data import definitions, index, sources, templates


@dataclasses.dataclass(frozen=True)
class TaskDescription:
  """A registered task.

  Attributes:
    name: its name.
    source: where its rows come from, in words.
    rows: split -> number of rows, None where the source does not tell; empty where
      there are no data.
    lacks: why there are no rows, in a word; "" where there are.
    problem: the same as a whole message.
    templates: its templates; none of a pipeline that does not use `templates.fill`.
    metrics: names of its metrics, the headline first.
    tag_shares: tag -> share of the rows that is to take a template with it.
    uses: what else shapes its text, in a few words each.
  """

  name: str
  source: str
  rows: dict[str, int | None]
  lacks: str
  problem: str
  templates: tuple[templates.Template, ...]
  metrics: tuple[str, ...]
  tag_shares: dict[str, float]
  uses: tuple[str, ...]

  @property
  def tags(self) -> list[tuple[str, int]]:
    """The tags of its templates, most frequent first, each with its number."""
    return Counter(tag for t in self.templates for tag in t.tags).most_common()


@dataclasses.dataclass(frozen=True)
class MixtureDescription:
  """A registered mixture.

  Attributes:
    name: its name.
    shares: (task, share of the examples, 0 to 1), the largest first; the share is
      None where there are no data to tell it from.
  """

  name: str
  shares: tuple[tuple[str, float | None], ...]


@dataclasses.dataclass(frozen=True)
class Listing:
  """All that is registered.

  Attributes:
    modules: the modules that registered it.
    tasks: by name.
    mixtures: by name.
  """

  modules: tuple[str, ...]
  tasks: tuple[TaskDescription, ...]
  mixtures: tuple[MixtureDescription, ...]


def registered(request: index.Request) -> Listing:
  """Describes all tasks and mixtures of the modules that a request names.

  Args:
    request: names the modules, the folder of the rows and what applies to them; its
      mixture, vocabulary and lengths do not count.

  Raises:
    UserError: a module, folder or file cannot be used.
  """
  definitions.load_tasks(request.task_modules, request.data_dir)
  names = seqio.TaskRegistry.names()
  if request.files is not None or names:
    # Files of the user's own and caps on rows come with a mixture: any will do.
    any_task = request.files["name"] if request.files else next(iter(names))
    definitions.load(dataclasses.replace(request, mixture=any_task))
  tasks = [describe(seqio.TaskRegistry.get(n)) for n in seqio.TaskRegistry.names()]
  mixtures = [_mixture(name) for name in seqio.MixtureRegistry.names()]
  return Listing(
    tuple(request.task_modules),
    tuple(sorted(tasks, key=lambda t: t.name)),
    tuple(sorted(mixtures, key=lambda m: m.name)),
  )


def describe(task: seqio.Task) -> TaskDescription:
  """Returns what a task says of itself; its rows are counted, where there are any."""
  rows, lacks, problem = _rows(task)
  return TaskDescription(
    name=task.name,
    source=_source(task.source),
    rows=rows,
    lacks=lacks,
    problem=problem,
    templates=templates.of_task(task),
    metrics=tuple(map(_function_name, task.metric_fns)),
    tag_shares=dict(fill_arguments(task).get("shares") or {}),
    uses=_uses(task),
  )


def _rows(task: seqio.Task) -> tuple[dict[str, int | None], str, str]:
  """Returns the rows of each split; or why there are none, in a word and in full."""
  try:
    splits = list(task.splits)
  except errors.UserError as e:
    return {}, "no --data_dir" if sources.data_dir() is None else "not found", str(e)
  except Exception as e:  # whatever a source of somebody else's raises
    return {}, type(e).__name__, str(e)
  try:
    return {split: task.num_input_examples(split) for split in splits}, "", ""
  except errors.UserError as e:
    return {}, "bad rows", str(e)
  except Exception as e:
    return {}, type(e).__name__, str(e)


def _source(source: seqio.DataSource) -> str:
  """Returns a source in words; SeqIO's own may print as an address in memory."""
  told = str(source)
  return type(source).__name__ if " at 0x" in told or len(told) > 40 else told


def _function_name(function: Callable) -> str:
  function = getattr(function, "func", function)
  return getattr(function, "__name__", type(function).__name__)


def _uses(task: seqio.Task) -> tuple[str, ...]:
  found = []
  given = fill_arguments(task)
  if given.get("cut"):
    found.append(f"cut: {given['cut'].place} of {given['cut'].field}")
  if given.get("shots"):
    shots = given["shots"]
    found.append(f"few-shot 1-{shots.most}: {shots.share:.0%}")
  for tag, share in (given.get("shares") or {}).items():
    found.append(f"{tag}: {share:.0%}")
  escaped = [n for n, f in task.output_features.items() if definitions.escapes(f)]
  if escaped:
    both = len(escaped) == len(task.output_features)
    found.append("escape" if both else f"escape: {', '.join(escaped)}")
  return tuple(found)


def fill_arguments(task: seqio.Task) -> dict[str, Any]:
  """Returns what a task gave `templates.fill`; nothing where it does not use it."""
  number = fill_number(task)
  if number is None:
    return {}
  return task._preprocessor_constructor_args[number].keywords


def fill_number(task: seqio.Task) -> int | None:
  """Returns which of a task's preprocessors is `templates.fill`, or None."""
  for number, step in enumerate(task._preprocessor_constructor_args):
    if getattr(step, "func", None) is templates.fill_templates:
      return number
  return None


def _mixture(name: str) -> MixtureDescription:
  rated = definitions.get_tasks(name)
  try:
    rates = {task.name: float(rate()) for task, rate in rated}
  except Exception:  # rates are functions of anybody's, mostly of the rows
    return MixtureDescription(name, tuple((task.name, None) for task, _ in rated))
  total = sum(rates.values())
  shares = [(task, rate / total if total else None) for task, rate in rates.items()]
  return MixtureDescription(name, tuple(sorted(shares, key=lambda s: -(s[1] or 0))))

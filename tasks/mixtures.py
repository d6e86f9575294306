"""Mixtures of the tasks that ship: importing this module registers all of them.

Rates are functions, called when a mixture is used: registration reads no data.
"""

import functools
from collections.abc import Callable, Sequence

import seqio
from t5tune.tasks import code, dialogue, entities, rating, reasoning  # noqa: F401

from t5tune.errors import UserError, did_you_mean

# Examples-proportional mixing with an artificial limit on a task's size (Raffel et
# al. 2020, section 3.5.2). It makes the full SAMSum and DialogSum (14,700 and 12,500
# rows) weigh the same, as the two directions of code translation; every other task of
# the collection is smaller.
MAXIMUM = 10_000


def num_examples(task: seqio.Task) -> float:
  """Rate of a task: its training rows, at most `MAXIMUM`.

  `seqio.mixing_rate_num_examples` gives the same number, but warns at every call that
  the task has no offline cache.
  """
  return float(min(task.num_input_examples("train"), MAXIMUM))


DIALOGUE_TASKS = ("dialogsum", "samsum")
ALL_TASKS = (
  *DIALOGUE_TASKS,
  "sst5",
  "java_to_cs",
  "cs_to_java",
  "wnut17",
  *(f"cot_{name}" for name in reasoning.DATASETS),
)


def replay(
  new_tasks: Sequence[str],
  old_mixture: str,
  share: float,
  new_rate: Callable[[seqio.Task], float] = num_examples,
) -> list[tuple[str, Callable[[seqio.Task], float]]]:
  """Returns rates for learning new tasks while replaying part of an old mixture.

  Replay keeps what a model learnt before from being forgotten. The share is exact
  whatever the sizes of the data: rates of the replayed tasks keep the proportions
  that they have in the old mixture, and are scaled to the share together. A new task
  that is itself in the old mixture is not replayed, or it would take part of the
  share. Rates of the new tasks are not scaled, so they still count examples.

  Args:
    new_tasks: names of registered tasks to learn.
    old_mixture: name of the registered mixture to replay.
    share: part of the examples that is replayed, between 0 and 1, both excluded.
    new_rate: rate of a new task.

  Returns:
    (task name, function giving its rate), for `seqio.MixtureRegistry.add`.

  Raises:
    UserError: a name is not registered, the share is out of range, or the old mixture
      has no other tasks.
  """
  if not 0 < share < 1:
    raise UserError(
      f"replay: share = {share} is not between 0 and 1. Give the part of all examples"
      " that the old mixture is to have, such as 0.25."
    )
  for name, registry in (
    *((name, seqio.TaskRegistry) for name in new_tasks),
    (old_mixture, seqio.MixtureRegistry),
  ):
    if name not in registry.names():
      kind = "task" if registry is seqio.TaskRegistry else "mixture"
      raise UserError(
        f"replay: no {kind} {name!r} is registered."
        f"{did_you_mean(name, registry.names())} Register it before the mixture."
      )
  old = seqio.MixtureRegistry.get(old_mixture)
  replayed = [task.name for task in old.tasks if task.name not in new_tasks]
  if not new_tasks or not replayed:
    raise UserError(
      f"replay: nothing to {'replay' if new_tasks else 'learn'}. Give new tasks, and an"
      f" old mixture ({old_mixture!r}) with other tasks than these."
    )

  def old_rate(task: seqio.Task) -> float:
    total_new = sum(new_rate(seqio.TaskRegistry.get(name)) for name in new_tasks)
    total_old = sum(old.get_rate(seqio.TaskRegistry.get(name)) for name in replayed)
    return old.get_rate(task) * total_new / total_old * share / (1 - share)

  return [
    *((name, new_rate) for name in new_tasks),
    *((name, old_rate) for name in replayed),
  ]


def add_study(
  name: str, domain: str, others: Sequence[str], share: float = 0.25
) -> None:
  """Registers the mixtures that `t5tune.study` compares ways to learn a domain with.

  `name` holds all tasks; `name_before` the others, which are learnt first; and
  `name_replay` the domain with a share of the others replayed.

  Args:
    name: the name of the mixture of all.
    domain: the registered task that is learnt last.
    others: the registered tasks that must not be forgotten.
    share: part of the examples of `name_replay` that is replayed.
  """
  add = functools.partial(seqio.MixtureRegistry.add, default_rate=num_examples)
  add(name, (domain, *others))
  add(f"{name}_before", tuple(others))
  add(f"{name}_replay", replay([domain], f"{name}_before", share))


seqio.MixtureRegistry.add(
  "dialogue_summarization", DIALOGUE_TASKS, default_rate=num_examples
)
seqio.MixtureRegistry.add("multitask", ALL_TASKS, default_rate=num_examples)
seqio.MixtureRegistry.add(
  "dialogsum_replay", replay(["dialogsum"], "multitask", share=0.25)
)
add_study(
  "study",
  "dialogsum",
  ("samsum", "sst5", "java_to_cs", "cs_to_java", "wnut17", "cot_gsm8k"),
)

"""How the task tests look at a registered task."""

import functools

import seqio

from t5tune.data import templates, vocabularies

LENGTHS = {"inputs": 128, "targets": 64}


def get_task(name, vocabulary):
  """Returns a registered task with the tests' vocabulary."""
  features = vocabularies.output_features(vocabulary)
  return seqio.TaskRegistry.get(name).replace(output_features=features)


def examples(task, split="train"):
  """Returns a split's examples as numpy values, in the order of the rows."""
  dataset = task.get_dataset(LENGTHS, split=split, shuffle=False)
  return list(dataset.as_numpy_iterator())


def task_templates(task):
  """Returns the templates a task fills, read off its preprocessors."""
  (step,) = (
    p
    for p in task.preprocessors
    if isinstance(p, functools.partial) and p.func is templates.fill_templates
  )
  return step.keywords["templates"]

"""How the task tests look at a registered task."""

import seqio

from t5tune.data import definitions

LENGTHS = {"inputs": 128, "targets": 64}


def get_task(name, vocabulary):
  """Returns a registered task with the tests' vocabulary."""
  return definitions.with_vocabulary(seqio.TaskRegistry.get(name), vocabulary)


def examples(task, split="train"):
  """Returns a split's examples as numpy values, in the order of the rows."""
  dataset = task.get_dataset(LENGTHS, split=split, shuffle=False)
  return list(dataset.as_numpy_iterator())

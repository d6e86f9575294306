"""Reasoning: targets end in the answer, which alone is scored."""

import pytest
import seqio
from t5tune.tasks import reasoning
from task_examples import examples, get_task

from t5tune.data import drawing, templates


@pytest.mark.parametrize("dataset", reasoning.DATASETS)
def test_targets_end_in_the_answer(dataset, vocabulary, data_dir):
  with drawing.training(held_out=["inverted"]):
    rows = examples(get_task(f"cot_{dataset}", vocabulary))
  for row in rows:
    text = row["targets_pretokenized"].decode()
    boats = int(text.split()[0])
    # The period is ours: chains of thought often stop without one.
    assert text == (
      f"{boats} boats with two oars: {boats} x 2 = {2 * boats}.\n"
      f"The answer is {2 * boats}."
    )


@pytest.mark.parametrize("dataset", reasoning.DATASETS)
def test_every_template_asks_for_the_reasoning_or_the_question(dataset):
  for template in templates.of_task(seqio.TaskRegistry.get(f"cot_{dataset}")):
    if "inverted" in template.tags:
      assert template.targets == "{question}"
      assert "{question}" not in template.inputs
      continue
    assert template.targets == "{chain_of_thought}\nThe answer is {answer}."
    assert "{answer}" not in template.inputs
    assert "{chain_of_thought}" not in template.inputs

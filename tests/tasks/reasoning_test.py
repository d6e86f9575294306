"""Reasoning: targets end in the answer, which alone is scored."""

import pytest
import seqio
from t5tune.tasks import reasoning
from task_examples import examples, get_task, task_templates


@pytest.mark.parametrize("dataset", reasoning.DATASETS)
def test_targets_end_in_the_answer(dataset, vocabulary, data_dir):
  for row in examples(get_task(f"cot_{dataset}", vocabulary)):
    text = row["targets_pretokenized"].decode()
    boats = int(text.split()[0])
    # The period is ours: chains of thought often stop without one.
    assert text == (
      f"{boats} boats with two oars: {boats} x 2 = {2 * boats}.\n"
      f"The answer is {2 * boats}."
    )


@pytest.mark.parametrize("dataset", reasoning.DATASETS)
def test_every_template_asks_for_the_reasoning(dataset):
  for template in task_templates(seqio.TaskRegistry.get(f"cot_{dataset}")):
    assert template.targets == "{chain_of_thought}\nThe answer is {answer}."
    assert "{answer}" not in template.inputs
    assert "{chain_of_thought}" not in template.inputs

"""Code translation: the two directions mirror each other."""

import seqio
from task_examples import examples, get_task
from tiny_data import ROWS

from t5tune.data import drawing, templates


def test_directions_are_mirrored(vocabulary, data_dir):
  with drawing.evaluation():
    there = examples(get_task("java_to_cs", vocabulary))
    back = examples(get_task("cs_to_java", vocabulary))
  for raw, one, other in zip(ROWS["java_cs"], there, back, strict=True):
    assert one["targets_pretokenized"].decode() == raw["cs"]
    assert other["targets_pretokenized"].decode() == raw["java"]
    assert raw["java"] in one["inputs_pretokenized"].decode()
    assert raw["cs"] in other["inputs_pretokenized"].decode()
    assert "Java method to C#" in one["inputs_pretokenized"].decode()
    assert "C# method to Java" in other["inputs_pretokenized"].decode()


def test_a_prompt_never_holds_its_answer():
  for name, answer in (("java_to_cs", "{cs}"), ("cs_to_java", "{java}")):
    for template in templates.of_task(seqio.TaskRegistry.get(name)):
      assert answer not in template.inputs
      assert template.targets == answer


def test_the_reference_is_the_rows_code_though_the_target_was_cut(vocabulary, data_dir):
  task = get_task("java_to_cs", vocabulary)
  row = examples(task)[0]
  assert (
    task.postprocess_fn("publ", example=row, is_target=True)
    == (ROWS["java_cs"][0]["cs"])
  )

"""Dialogue summarisation: line ends, references and the canonical instruction."""

import json

import pytest
import seqio
from t5tune.tasks import dialogue
from task_examples import examples, get_task
from tiny_data import DIALOGUES, SUMMARIES, write_rows

from t5tune.data import templates
from t5tune.errors import UserError


def test_the_canonical_template_says_summarize_a_dialogue():
  canonical = dialogue.SUMMARY_TEMPLATES[0]
  assert canonical.name == "summarize_a_dialogue"
  assert canonical.inputs.startswith("Summarize a dialogue")


def test_every_template_summarizes():
  for template in dialogue.SUMMARY_TEMPLATES:
    assert template.targets == "{summary}"
    assert template.inputs.count("{dialogue}") == 1


def test_turns_keep_their_speakers_and_lose_the_rest(vocabulary, data_dir):
  with templates.first():
    row = examples(get_task("samsum", vocabulary))[0]
  assert row["inputs_pretokenized"].decode() == (
    "Summarize a dialogue.\n\nAna: Is the ferry running today?\nBo: It is, at noon.\n"
    "Ana: Then I'll pack."
  )
  assert row["targets_pretokenized"].decode() == SUMMARIES[0].strip()


@pytest.mark.parametrize("name", ["samsum", "dialogsum"])
def test_a_training_row_has_one_reference(name, vocabulary, data_dir):
  for row, summary in zip(examples(get_task(name, vocabulary)), SUMMARIES, strict=True):
    assert [r.decode() for r in row["references"]] == [summary.strip()]


def test_a_row_with_three_summaries_has_three_references(vocabulary, data_dir):
  task = get_task("dialogsum", vocabulary)
  (row,) = examples(task, "validation")
  references = task.postprocess_fn("cut", example=row, is_target=True)
  assert references == [s.strip() for s in SUMMARIES[:3]]
  assert row["targets_pretokenized"].decode() == references[0]


def test_a_row_without_any_summary_is_named(data_dir):
  path = data_dir / "dialogsum" / "train.jsonl"
  write_rows(path, [{"dialogue": DIALOGUES[0], "summary": " ", "summary1": ""}])
  task = seqio.TaskRegistry.get("dialogsum")
  with pytest.raises(UserError, match=r"train.jsonl:1: no summary: give the row"):
    task.get_dataset({"inputs": 8, "targets": 8})


def test_an_empty_dialogue_is_named(data_dir):
  path = data_dir / "samsum" / "train.jsonl"
  path.write_text(json.dumps({"dialogue": "\r\n ", "summary": "Nobody spoke."}))
  with pytest.raises(UserError, match=r"train.jsonl:1: field 'dialogue' is empty"):
    seqio.TaskRegistry.get("samsum").num_input_examples("train")

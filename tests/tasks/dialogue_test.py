"""Dialogue summarisation: line ends, references and the canonical instruction."""

import json

import pytest
import seqio
from t5tune.tasks import dialogue
from task_examples import LENGTHS, examples, get_task
from tiny_data import DIALOGUES, SUMMARIES, write_rows

from t5tune.data import drawing
from t5tune.errors import UserError


def test_the_canonical_template_says_summarize_a_dialogue():
  canonical = dialogue.SUMMARY_TEMPLATES[0]
  assert canonical.name == "summarize_a_dialogue"
  assert canonical.inputs.startswith("Summarize a dialogue")


def test_every_template_summarizes_or_is_inverted():
  for template in dialogue.SUMMARY_TEMPLATES:
    asked, wanted = "{dialogue}", "{summary}"
    if "inverted" in template.tags:
      asked, wanted = wanted, asked
    assert template.targets == wanted
    assert template.inputs.count(asked) == 1


def test_a_limit_of_words_is_kept_by_the_summary(vocabulary, data_dir):
  rows = examples(get_task("samsum", vocabulary))
  for row in rows:
    words = len(row["summary"].split())
    assert words <= row["words"] < words + 5
    assert row["words"] % 5 == 0


def test_a_dialogue_that_is_too_long_keeps_its_instruction(vocabulary, data_dir):
  path = data_dir / "samsum" / "train.jsonl"
  turns = "\n".join(f"Ana: Turn {i}." for i in range(200))
  write_rows(path, [{"dialogue": turns, "summary": "Ana counts."}])
  task = get_task("samsum", vocabulary)
  for number in range(12):
    with drawing.training(pass_index=number, held_out=["inverted"]):
      (row,) = examples(task)
    text = row["inputs_pretokenized"].decode()
    (template,) = [
      t for t in dialogue.SUMMARY_TEMPLATES if t.name == row["template"].decode()
    ]
    before, _, after = template.inputs.partition("{dialogue}")
    words = str(row["words"])
    assert text.startswith(before.replace("{words}", words) + "Ana: Turn 0.\n")
    assert text.endswith(after.replace("{words}", words))
    assert len(row["inputs"]) <= LENGTHS["inputs"]
    assert row["cut_tokens"] > 100


def test_turns_keep_their_speakers_and_lose_the_rest(vocabulary, data_dir):
  with drawing.evaluation():
    row = examples(get_task("samsum", vocabulary))[0]
  assert row["inputs_pretokenized"].decode() == (
    "Summarize a dialogue.\n\nAna: Is the ferry running today?\nBo: It is, at noon.\n"
    "Ana: Then I'll pack."
  )
  assert row["targets_pretokenized"].decode() == SUMMARIES[0].strip()


@pytest.mark.parametrize("name", ["samsum", "dialogsum"])
def test_a_training_row_has_one_reference(name, vocabulary, data_dir):
  rows = examples(get_task(name, vocabulary))
  for row, summary in zip(rows, SUMMARIES, strict=True):
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

"""ROUGE: the profile's parts, and the recorded scores of a published output."""

import json

import numpy as np
import pytest
from rouge_score import rouge_scorer
from shared_data import shared_dir

from t5tune.evaluation import rouge

REFERENCE = "Ana packs her bags. The ferries leave at noon! Bo stays."


def test_perfect_and_empty_outputs():
  assert rouge.rouge([REFERENCE], [REFERENCE]) == dict.fromkeys(rouge.KEYS, 100.0)
  for nothing in ("", " ", "?!", "⁇"):
    assert rouge.rouge([REFERENCE], [nothing]) == dict.fromkeys(rouge.KEYS, 0.0)


def test_first_key_is_the_headline():
  assert list(rouge.rouge(["a"], ["a"])) == ["rouge1", "rouge2", "rougeL", "rougeLsum"]


def test_words_are_stemmed():
  assert rouge.rouge(["ferries leaving"], ["ferry leaves"])["rouge1"] == 100


def test_references_are_averaged_not_maximized():
  one = rouge.rouge(["Ana packs."], ["Ana packs bags."])
  two = rouge.rouge(["Bo sleeps."], ["Ana packs bags."])
  both = rouge.rouge([["Ana packs.", "Bo sleeps."]], ["Ana packs bags."])
  for key in rouge.KEYS:
    assert both[key] == pytest.approx((one[key] + two[key]) / 2, abs=1e-12)
  assert rouge.rouge([["Ana packs."]], ["Ana packs bags."]) == one


def test_sentences_change_lsum_only():
  # The same sentences in another order: Lsum matches them one by one.
  swapped = "Bo stays. The ferries leave at noon! Ana packs her bags."
  scores = rouge.rouge([REFERENCE], [swapped])
  assert scores["rougeLsum"] == 100 > scores["rougeL"]


@pytest.mark.parametrize(
  ("text", "sentences"),
  [
    ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
    ("It costs 3.50 now.", ["It costs 3.50 now."]),
    ("Wait... what?!  Yes.", ["Wait...", "what?!", "Yes."]),
    ("A line\nbreak is no end.\r\nThis is.", ["A line break is no end.", "This is."]),
    ("", [""]),
  ],
)
def test_split_sentences(text, sentences):
  assert rouge.split_sentences(text) == sentences


def test_rows_must_match():
  with pytest.raises(ValueError):
    rouge.rouge(["a", "b"], ["a"])


@pytest.fixture(scope="module")
def published():
  """References, outputs and scores of DialogSum's published baseline."""
  shared = shared_dir()
  with (shared / "data/dialogsum/validation.jsonl").open() as file:
    rows = [json.loads(line) for line in file]
  folder = shared / "fixtures/rouge"
  references = [[row[f"summary{i}"] for i in (1, 2, 3)] for row in rows]
  outputs = (folder / "dialogsum_bart_output.txt").read_text().splitlines()
  return references, outputs, json.loads((folder / "expected.json").read_text())


PROTOCOLS = {
  "default: stemmer, sentence newlines, mean over references": slice(0, 3),
  "default, first reference only": slice(0, 1),
  "hf: stemmer, sentence newlines, first reference": slice(0, 1),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_recorded_scores_of_a_published_output(published, protocol):
  references, outputs, expected = published
  scores = rouge.rouge([r[PROTOCOLS[protocol]] for r in references], outputs)
  for key, value in expected[protocol].items():
    assert scores[key] == pytest.approx(value, abs=0.01)


def test_rows_equal_rouge_score(published):
  references, outputs, _ = published
  references, outputs = references[:40], outputs[:40]
  scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
  ours = rouge.row_scores(references, outputs)
  for row, texts, output in zip(ours, references, outputs, strict=True):
    for key, value in zip(rouge.KEYS[:3], row, strict=False):
      theirs = np.mean([scorer.score(text, output)[key].fmeasure for text in texts])
      assert value == pytest.approx(100 * theirs, abs=1e-9)

"""ROUGE: the profile's parts, and the recorded scores of a published output."""

import dataclasses
import json

import numpy as np
import pytest
from rouge_score import rouge_scorer
from shared_data import shared_dir

from t5tune.errors import UserError
from t5tune.evaluation import rouge, summaries

REFERENCE = "Ana packs her bags. The ferries leave at noon! Bo stays."


def test_perfect_and_empty_outputs():
  assert rouge.rouge([REFERENCE], [REFERENCE]) == dict.fromkeys(
    rouge.DEFAULT.keys, 100.0
  )
  for nothing in ("", " ", "?!", "⁇"):
    assert rouge.rouge([REFERENCE], [nothing]) == dict.fromkeys(rouge.DEFAULT.keys, 0.0)


def test_first_key_is_the_headline():
  assert list(rouge.rouge(["a"], ["a"])) == ["rouge1", "rouge2", "rougeL", "rougeLsum"]


def test_words_are_stemmed():
  assert rouge.rouge(["ferries leaving"], ["ferry leaves"])["rouge1"] == 100


def test_references_are_averaged_not_maximized():
  one = rouge.rouge(["Ana packs."], ["Ana packs bags."])
  two = rouge.rouge(["Bo sleeps."], ["Ana packs bags."])
  both = rouge.rouge([["Ana packs.", "Bo sleeps."]], ["Ana packs bags."])
  for key in rouge.DEFAULT.keys:
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


def of_references(profile: str, references: str) -> rouge.Profile:
  return dataclasses.replace(rouge.PROFILES[profile], references=references)


# What the file of recorded scores calls each.
PROTOCOLS = {
  "default: stemmer, sentence newlines, mean over references": rouge.DEFAULT,
  "default with the best reference": of_references("default", "max"),
  "default, first reference only": of_references("default", "first"),
  't5x: no stemmer, newline only at " . ", first reference, plain mean': (
    rouge.PROFILES["t5x"]
  ),
  "flan: as t5x, best reference": rouge.PROFILES["flan"],
  "hf: stemmer, sentence newlines, first reference": rouge.PROFILES["hf"],
  "lab: stemmer, no newlines, mean over references": rouge.PROFILES["lab"],
  "dialogsum_paper: py-rouge, stemmer, one line, weight_factor 1.2 on ROUGE-L, mean over"
  " references": rouge.PROFILES["dialogsum_paper"],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_recorded_scores_of_a_published_output(published, protocol):
  references, outputs, expected = published
  profile = PROTOCOLS[protocol]
  found = rouge.row_scores(references, outputs, profile).mean(axis=0)
  wanted = expected[protocol]
  assert list(wanted) == list(profile.keys)
  assert found == pytest.approx(list(wanted.values()), abs=1e-4)


def test_recorded_scores_of_humans(published):
  references, _, expected = published
  profile = rouge.PROFILES["dialogsum_paper"]
  found = summaries.human_scores(references, profile).mean(axis=0)
  wanted = expected[
    "dialogsum_paper, human against human (mean of the six ordered pairs)"
  ]
  assert found == pytest.approx(list(wanted.values()), abs=1e-4)


def test_every_profile_has_its_own_fingerprint():
  fingerprints = [p.fingerprint for p in rouge.PROFILES.values()]
  assert len(set(fingerprints)) == len(fingerprints)
  assert rouge.DEFAULT.fingerprint == "rouge|stem=1|nl=sent|ref=mean|agg=mean|v1"
  paper = "rouge|tok=py-rouge|w=1.2|stem=1|nl=one|ref=mean|agg=mean|v1"
  assert rouge.PROFILES["dialogsum_paper"].fingerprint == paper


def test_a_profile_that_is_not_there():
  with pytest.raises(UserError, match="Did you mean 'dialogsum_paper'"):
    rouge.profile_of("dialogsum")


def test_of_several_references_max_takes_the_best_and_first_the_first():
  targets, predictions = [["Ana packs.", "Bo sleeps well."]], ["Bo sleeps."]
  best = rouge.row_scores(targets, predictions, of_references("default", "max"))
  first = rouge.row_scores(targets, predictions, of_references("default", "first"))
  each = rouge.reference_scores(targets, predictions)[0]
  assert each.shape == (2, 4)
  np.testing.assert_array_equal(best[0], each[1])
  np.testing.assert_array_equal(first[0], each[0])


def test_only_spaced_full_stops_end_a_line_in_t5x():
  profile = rouge.PROFILES["t5x"]
  for end, same in ((" .", 100.0), (".", None)):
    reference = f"ana packs{end} bo stays{end} "
    swapped = f"bo stays{end} ana packs{end} "
    scores = dict(
      zip(
        profile.keys,
        rouge.row_scores([reference], [swapped], profile)[0],
        strict=True,
      )
    )
    assert scores["rougeLsum"] == (same or scores["rougeL"])
    assert scores["rougeL"] < 100


def test_rows_equal_rouge_score(published):
  references, outputs, _ = published
  references, outputs = references[:40], outputs[:40]
  scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
  ours = rouge.row_scores(references, outputs)
  for row, texts, output in zip(ours, references, outputs, strict=True):
    for key, value in zip(rouge.DEFAULT.keys[:3], row, strict=False):
      theirs = np.mean([scorer.score(text, output)[key].fmeasure for text in texts])
      assert value == pytest.approx(100 * theirs, abs=1e-9)

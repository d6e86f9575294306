"""Metrics of ratings, code, entities and answers, as tables."""

import pytest
import sacrebleu

from t5tune.evaluation import text_metrics as metrics


def test_accuracy_counts_no_label_as_wrong():
  assert metrics.accuracy([1, 2, 3, 4], [1, 2, 4, None]) == {"accuracy": 50.0}


@pytest.mark.parametrize(
  ("target", "prediction", "error"),
  [(3, 3, 0), (5, 1, 4), (2, 4, 2), (1, None, 4), (3, None, 2), (4, None, 3)],
)
def test_star_error_gives_nonsense_the_worst(target, prediction, error):
  found = metrics.star_error([target], [prediction])
  assert found == {"mean_absolute_error": error}


CODE = ["public int getSize() {return size;}", "void f() {g(1, 2);}"]


def test_bleu_is_sacrebleu_and_has_its_fingerprint():
  assert metrics.bleu(CODE, CODE)["bleu"] == pytest.approx(100)
  assert metrics.bleu(CODE, ["", ""])["bleu"] == 0
  changed = [CODE[0].replace("Size", "Depth"), CODE[1]]
  theirs = sacrebleu.BLEU(force=True)
  expected = theirs.corpus_score(changed, [CODE]).score
  assert metrics.bleu(CODE, changed)["bleu"] == pytest.approx(expected)
  signature = str(theirs.get_signature())
  for part in ("tok:13a", "case:mixed", "smooth:exp"):
    assert part in signature
    assert part.replace(":", "=") in metrics.BLEU_FINGERPRINT


def test_exact_match_ignores_what_no_output_can_keep():
  targets = ["int  x;\nint y;", "ﬁnal …", "Int x;"]
  predictions = ["int x; int y;", "final ...", "int x;"]
  assert metrics.exact_match(targets, predictions)["exact_match"] == pytest.approx(
    200 / 3
  )


BO, OSLO = ("person", "Bo"), ("location", "Oslo")


@pytest.mark.parametrize(
  ("targets", "predictions", "precision", "recall"),
  [
    ([[BO, OSLO]], [[OSLO, BO]], 100, 100),
    ([[BO, OSLO]], [[BO]], 100, 50),
    ([[BO]], [[BO, OSLO]], 50, 100),
    ([[BO]], [[BO, BO]], 50, 100),
    ([[BO, BO]], [[BO]], 100, 50),
    ([[BO]], [[("location", "Bo")]], 0, 0),
    ([[BO], [OSLO]], [[OSLO], [BO]], 0, 0),
    ([[BO], [OSLO, BO]], [[], [OSLO]], 100, 100 / 3),
    ([[]], [[]], 100, 100),
    ([[]], [[BO]], 0, 0),
    ([[BO]], [[]], 0, 0),
  ],
)
def test_entity_f1(targets, predictions, precision, recall):
  scores = metrics.entity_f1(targets, predictions)
  f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0
  assert list(scores.values()) == pytest.approx([f1, precision, recall])
  assert list(scores)[0] == "entity_f1"


RIGHT = [
  ("72", "72"),
  ("72", "72.0"),
  ("72", "$72"),
  ("72", "72 clips"),
  ("72", "= 72"),
  ("1200", "1,200.00 dollars"),
  ("1,200", "1200"),
  ("-5", "-5"),
  ("-5", "-$5"),
  ("0.5", ".50"),
  ("75", "75%"),
  ("10", "**10**"),
  ("(C)", "(C)"),
  ("(C)", "C"),
  ("(C)", "c"),
  ("(C)", "(C) 308"),
  ("(C)", "C) 308"),
  ("yes", "Yes"),
  ("yes", '"yes"'),
  ("Sentence A", "sentence  a"),
  ("friend's house", "friend's house"),
]
WRONG = [
  ("72", ""),
  ("72", "seventy-two"),
  ("72", "720"),
  ("72", "7"),
  ("72", "-72"),
  ("72", "72/5"),
  ("72", "1.72"),
  ("5", "-5"),
  ("3", "3:1"),
  ("10", "so she earned 10"),
  ("(C)", "(B)"),
  ("(C)", "cat"),
  ("(C)", ""),
  ("(A)", "a dog"),
  ("yes", "no"),
  ("yes", ""),
  ("yes", "yes and no"),
  ("Sentence A", "Sentence B"),
]


@pytest.mark.parametrize(("target", "prediction"), RIGHT)
def test_answers_that_are_right(target, prediction):
  assert metrics.answer_accuracy([target], [prediction]) == {"answer_accuracy": 100.0}


@pytest.mark.parametrize(("target", "prediction"), WRONG)
def test_answers_that_are_wrong(target, prediction):
  assert metrics.answer_accuracy([target], [prediction]) == {"answer_accuracy": 0.0}


def test_every_metric_gives_floats():
  rows = (
    (metrics.accuracy, [1], [1]),
    (metrics.star_error, [1], [None]),
    (metrics.bleu, ["a"], ["a"]),
    (metrics.exact_match, ["a"], ["a"]),
    (metrics.entity_f1, [[BO]], [[BO]]),
    (metrics.answer_accuracy, ["1"], ["1"]),
  )
  for fn, targets, predictions in rows:
    scores = fn(targets=targets, predictions=predictions)
    assert all(type(value) is float for value in scores.values()), fn

"""Metrics of ratings, code, entities and answers, over postprocessed outputs.

SeqIO's form: `fn(targets, predictions)`, lists with an entry a row. Scores are better
when higher and run to 100, except keys that say error.
"""

import collections
import decimal
import re
import unicodedata
from collections.abc import Hashable, Sequence

import numpy as np
import sacrebleu

from t5tune.data.postprocessors import STARS

BLEU_FINGERPRINT = "bleu|tok=13a|case=mixed|smooth=exp|v1"

# A number at the start of an answer, perhaps after a currency sign, that is not the
# beginning of a fraction, ratio or time.
_NUMBER = re.compile(r"[^\w.-]*(-?[^\w\s.-]?(?:\d[\d,]*)?\.?\d+)(?![\d/:])")
_OPTION = re.compile(r"\(?([a-z])\)(?!\w)|([a-z])\Z")


def normalize(text: str) -> str:
  """Returns a text as SentencePiece's NFKC rules and white space leave it.

  Args:
    text: any text.

  Returns:
    NFKC form, with single spaces: what a perfect output can look like at best.
  """
  return " ".join(unicodedata.normalize("NFKC", text).split())


def _percentage(hits: Sequence[bool]) -> float:
  return 100 * float(np.mean(hits))


def accuracy(
  targets: Sequence[Hashable], predictions: Sequence[Hashable | None]
) -> dict[str, float]:
  """Share of rows whose label is right.

  Args:
    targets: labels.
    predictions: labels; None, for output that states none, is wrong.

  Returns:
    `accuracy`, in percent.
  """
  pairs = zip(targets, predictions, strict=True)
  return {"accuracy": _percentage([t == p for t, p in pairs])}


def star_error(
  targets: Sequence[int], predictions: Sequence[int | None]
) -> dict[str, float]:
  """Mean distance between ratings of 1 to 5 stars.

  Args:
    targets: ratings.
    predictions: ratings; None counts as the rating that is farthest off.

  Returns:
    `mean_absolute_error`, in stars.
  """
  low, high = STARS[0], STARS[-1]
  errors = [
    max(t - low, high - t) if p is None else abs(t - p)
    for t, p in zip(targets, predictions, strict=True)
  ]
  return {"mean_absolute_error": float(np.mean(errors))}


def bleu(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
  """Corpus BLEU by sacrebleu (Post 2018), `BLEU_FINGERPRINT`.

  Args:
    targets: one reference a row.
    predictions: texts.

  Returns:
    `bleu`, from 0 to 100.
  """
  score = sacrebleu.corpus_bleu(
    [normalize(p) for p in predictions],
    [[normalize(t) for t in targets]],
    force=True,  # no warning that code looks tokenized
  )
  return {"bleu": float(score.score)}


def exact_match(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
  """Share of rows whose text equals the reference, white space aside.

  Args:
    targets: one reference a row.
    predictions: texts.

  Returns:
    `exact_match`, in percent.
  """
  pairs = zip(targets, predictions, strict=True)
  return {"exact_match": _percentage([normalize(t) == normalize(p) for t, p in pairs])}


def entity_f1(
  targets: Sequence[Sequence[tuple[str, str]]],
  predictions: Sequence[Sequence[tuple[str, str]]],
) -> dict[str, float]:
  """Micro F1 over entities; one stated twice counts as often as the row holds it.

  Args:
    targets: (type, entity) pairs of each row.
    predictions: the same.

  Returns:
    `entity_f1`, `entity_precision` and `entity_recall`, in percent.
  """
  right = stated = held = 0
  for target, prediction in zip(targets, predictions, strict=True):
    wanted = collections.Counter((kind, normalize(entity)) for kind, entity in target)
    found = collections.Counter((kind, normalize(e)) for kind, e in prediction)
    right += (wanted & found).total()
    stated += found.total()
    held += wanted.total()
  nothing_to_find = stated == held == 0
  return {
    # 2PR / (P + R), without its division by zero.
    "entity_f1": 100.0 if nothing_to_find else 200 * right / (stated + held),
    "entity_precision": 100.0 if nothing_to_find else 100 * right / max(stated, 1),
    "entity_recall": 100.0 if nothing_to_find else 100 * right / max(held, 1),
  }


def answer_accuracy(
  targets: Sequence[str], predictions: Sequence[str]
) -> dict[str, float]:
  """Share of rows whose final answer is right.

  A number is compared by value (`$1,200.00` is `1200`), an option by its letter
  (`(C) 308` is `C`), anything else by its words.

  Args:
    targets: answers.
    predictions: answers as `postprocessors.final_answer` finds them.

  Returns:
    `answer_accuracy`, in percent.
  """
  pairs = zip(targets, predictions, strict=True)
  return {"answer_accuracy": _percentage([_same_answer(t, p) for t, p in pairs])}


def _same_answer(target: str, prediction: str) -> bool:
  target, prediction = normalize(target).lower(), normalize(prediction).lower()
  number = _number(target)
  if number is not None:
    return number == _number(prediction)
  option = _OPTION.match(target)
  if option and option.end() == len(target):
    found = _OPTION.match(prediction)
    return bool(found) and (option[1] or option[2]) == (found[1] or found[2])
  return target.strip(" .\"'") == prediction.strip(" .\"'")


def _number(text: str) -> decimal.Decimal | None:
  """Returns the number that a text starts with."""
  found = _NUMBER.match(text)
  if not found:
    return None
  return decimal.Decimal(re.sub(r"[^\d.-]", "", found[1]))

"""ROUGE: the metric of summaries, computed by rouge-score under a named profile.

Lin 2004, https://aclanthology.org/W04-1013. Published protocols differ by ten points
on the same output, so a score is only given with its profile's fingerprint.
"""

import functools
import re
from collections.abc import Sequence

import numpy as np
from rouge_score import rouge_scorer

# Porter stemmer; one sentence a line for rougeLsum; F1 against each reference,
# averaged over a row's references; plain mean over rows; times 100.
FINGERPRINT = "rouge|stem=1|nl=sent|ref=mean|agg=mean|v1"
KEYS = ("rouge1", "rouge2", "rougeL", "rougeLsum")

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def split_sentences(text: str) -> list[str]:
  """Splits a text after each `.`, `!` or `?` that white space follows.

  Args:
    text: any text; its own newlines count as spaces.

  Returns:
    The sentences.
  """
  return _SENTENCE_END.split(" ".join(text.split()))


@functools.cache
def _scorer() -> rouge_scorer.RougeScorer:
  return rouge_scorer.RougeScorer(KEYS, use_stemmer=True)


def row_scores(
  targets: Sequence[str | Sequence[str]], predictions: Sequence[str]
) -> np.ndarray:
  """Scores each row.

  Args:
    targets: a reference, or a list of references, for each row.
    predictions: a summary for each row.

  Returns:
    (rows, 4) float64: F1 x 100 for each of `KEYS`, averaged over the references.
  """
  scores = np.zeros((len(predictions), len(KEYS)))
  for i, (target, prediction) in enumerate(zip(targets, predictions, strict=True)):
    references = [target] if isinstance(target, str) else list(target)
    lines = "\n".join(split_sentences(prediction))
    scored = [
      _scorer().score("\n".join(split_sentences(reference)), lines)
      for reference in references
    ]
    scores[i] = [np.mean([100 * s[key].fmeasure for s in scored]) for key in KEYS]
  return scores


def rouge(
  targets: Sequence[str | Sequence[str]], predictions: Sequence[str]
) -> dict[str, float]:
  """Scores summaries under the default profile, `FINGERPRINT`.

  Args:
    targets: a reference, or a list of references, for each row.
    predictions: a summary for each row; at least one.

  Returns:
    F1 x 100 for each of `KEYS`, averaged over rows.
  """
  means = row_scores(targets, predictions).mean(axis=0)
  return dict(zip(KEYS, map(float, means), strict=True))

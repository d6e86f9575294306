"""ROUGE: the metric of summaries, computed by rouge-score under named profiles.

Lin 2004, https://aclanthology.org/W04-1013. Published protocols differ by ten points
on the same output, so a score is only given with its profile's fingerprint.
"""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from t5tune import errors

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclasses.dataclass(frozen=True)
class Profile:
  """A protocol by which summaries are scored.

  Attributes:
    name: what it is called.
    lines: what a line is to ROUGE-Lsum: 'sent', a sentence; 'one', the whole text;
      'dot', the text's own lines, and what ends in " . " (as in tokenized text).
    references: of several, the 'mean' of their scores, the 'max', or the 'first' alone.
    stemmer: whether words are reduced to their stems.
    tokens: 'rouge-score', runs of letters and digits; 'py-rouge', see `rouge_tokens`.
    weight: precision and recall of ROUGE-L are raised to 1/weight, as py-rouge does.
  """

  name: str
  lines: Literal["sent", "one", "dot"] = "sent"
  references: Literal["mean", "max", "first"] = "mean"
  stemmer: bool = True
  tokens: Literal["rouge-score", "py-rouge"] = "rouge-score"
  weight: float = 1.0

  @property
  def keys(self) -> tuple[str, ...]:
    """The scores it gives; py-rouge's ROUGE-L is what others call ROUGE-Lsum."""
    if self.tokens == "py-rouge":
      return ("rouge1", "rouge2", "rougeL")
    return ("rouge1", "rouge2", "rougeL", "rougeLsum")

  @property
  def fingerprint(self) -> str:
    """What decides its numbers, in a line; equal ones alone may be compared."""
    parts = ["rouge"]
    if self.tokens != "rouge-score":
      parts += [f"tok={self.tokens}", f"w={self.weight:g}"]
    parts += [f"stem={int(self.stemmer)}", f"nl={self.lines}", f"ref={self.references}"]
    return "|".join([*parts, "agg=mean", "v1"])


_PY_ROUGE = {"tokens": "py-rouge"}
DEFAULT = Profile("default")
# Whose numbers each gives: T5X's metric on one reference; FLAN's, the best of several;
# Hugging Face's summarisation example; scripts that pass each text as one line; the DialogSum
# paper's (py-rouge at its weight of 1.2); the SAMSum paper's.
PROFILES = {
  profile.name: profile
  for profile in (
    DEFAULT,
    Profile("t5x", "dot", "first", stemmer=False),
    Profile("flan", "dot", "max", stemmer=False),
    Profile("hf", "sent", "first"),
    Profile("lab", "one", "mean"),
    Profile("dialogsum_paper", "one", "mean", weight=1.2, **_PY_ROUGE),
    Profile("samsum_paper", "sent", "first", **_PY_ROUGE),
  )
}


def profile_of(name: str) -> Profile:
  """Returns the profile of this name.

  Raises:
    UserError: there is none.
  """
  if name not in PROFILES:
    raise errors.UserError(
      f"there is no ROUGE profile {name!r}.{errors.did_you_mean(name, PROFILES)} There"
      f" is: {', '.join(PROFILES)}."
    )
  return PROFILES[name]


def split_sentences(text: str) -> list[str]:
  """Splits a text after each `.`, `!` or `?` that white space follows.

  Args:
    text: any text; its own newlines count as spaces.

  Returns:
    The sentences.
  """
  return _SENTENCE_END.split(" ".join(text.split()))


def _as_lines(text: str, lines: str) -> str:
  if lines == "sent":
    return "\n".join(split_sentences(text))
  if lines == "dot":
    return text.replace(" . ", " .\n")
  return " ".join(text.split())


@functools.cache
def _scorer(profile: Profile) -> Any:
  # Late: with nltk comes scipy, which takes longer than all else of a start.
  from rouge_score import rouge_scorer

  from t5tune.evaluation import rouge_tokens

  if profile.tokens == "rouge-score":
    words = rouge_tokens.RougeScoreTokenizer(profile.stemmer)
    return rouge_scorer.RougeScorer(profile.keys, tokenizer=words)
  own = rouge_tokens.PyRougeTokenizer(profile.stemmer)
  return rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeLsum"], tokenizer=own)


@functools.lru_cache(2**15)  # a table's rows are scored together, and then each
def _pair_scores(profile: Profile, reference: str, prediction: str) -> list[float]:
  """Returns F1 x 100 of a text against a reference, for each of the profile's keys."""
  texts = (_as_lines(text, profile.lines) for text in (reference, prediction))
  found = _scorer(profile).score(*texts)
  if profile.tokens == "rouge-score":
    return [100 * found[key].fmeasure for key in profile.keys]
  longest = found["rougeLsum"]
  p, r = (share ** (1 / profile.weight) for share in longest[:2])
  weighted = 2 * p * r / (p + r) if p and r else 0.0
  return [
    100 * found["rouge1"].fmeasure,
    100 * found["rouge2"].fmeasure,
    100 * weighted,
  ]


def reference_scores(
  targets: Sequence[str | Sequence[str]],
  predictions: Sequence[str],
  profile: Profile = DEFAULT,
) -> list[np.ndarray]:
  """Scores each row against each of its references.

  Args:
    targets: a reference, or a list of references, for each row.
    predictions: a summary for each row.
    profile: the protocol; which references it counts makes no difference here.

  Returns:
    For each row (references, keys) float64: F1 x 100.
  """
  scores = []
  for target, prediction in zip(targets, predictions, strict=True):
    references = [target] if isinstance(target, str) else target
    scores.append(np.array([_pair_scores(profile, r, prediction) for r in references]))
  return scores


def row_scores(
  targets: Sequence[str | Sequence[str]],
  predictions: Sequence[str],
  profile: Profile = DEFAULT,
) -> np.ndarray:
  """Scores each row.

  Args:
    targets: a reference, or a list of references, for each row.
    predictions: a summary for each row.
    profile: the protocol.

  Returns:
    (rows, keys) float64: F1 x 100 for each of the profile's keys.
  """
  if profile.references == "first":
    targets = [t if isinstance(t, str) else t[0] for t in targets]
  scores = np.zeros((len(predictions), len(profile.keys)))
  over = np.max if profile.references == "max" else np.mean
  for i, found in enumerate(reference_scores(targets, predictions, profile)):
    scores[i] = over(found, axis=0)
  return scores


def rouge(
  targets: Sequence[str | Sequence[str]], predictions: Sequence[str]
) -> dict[str, float]:
  """Scores summaries under the default profile.

  Args:
    targets: a reference, or a list of references, for each row.
    predictions: a summary for each row; at least one.

  Returns:
    F1 x 100 for each of its keys, averaged over rows.
  """
  means = row_scores(targets, predictions).mean(axis=0)
  return dict(zip(DEFAULT.keys, map(float, means), strict=True))

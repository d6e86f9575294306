"""What stands beside the score of a summary: trivial systems, humans, inventions."""

import re
from collections.abc import Collection, Sequence

import numpy as np

from t5tune.evaluation import rouge

_WORD = re.compile(r"[^\W\d_][\w’'-]*|\d+(?:[.,:]\d+)*")
_POSSESSIVE = re.compile(r"['’]s?$")
_COUNTS = "zero one two three four five six seven eight nine ten eleven twelve".split()
_NUMBERS = {word: str(n) for n, word in enumerate(_COUNTS)}


def lead(dialogue: str, turns: int = 3) -> str:
  """Returns the first turns of a dialogue, the LEAD-3 of summarisation papers.

  Args:
    dialogue: one turn a line.
    turns: how many.
  """
  return " ".join(_turns(dialogue)[:turns])


def longest(dialogue: str, turns: int = 3) -> str:
  """Returns the longest turns of a dialogue, the longest first.

  LONGEST-3 of Gliwa et al. 2019, https://aclanthology.org/D19-5409.

  Args:
    dialogue: one turn a line.
    turns: how many.
  """
  return " ".join(sorted(_turns(dialogue), key=len, reverse=True)[:turns])


def _turns(dialogue: str) -> list[str]:
  return [line.strip() for line in dialogue.splitlines() if line.strip()]


def human_scores(
  references: Sequence[Sequence[str]], profile: rouge.Profile
) -> np.ndarray | None:
  """Scores each reference against the others of its row, as if a system wrote it.

  Args:
    references: of every row.
    profile: the protocol.

  Returns:
    (rows, keys) float64: F1 x 100, the mean over a row's references; None where a row
    has but one.
  """
  if any(len(row) < 2 for row in references):
    return None
  scores = []
  for row in references:
    others = [[*row[:i], *row[i + 1 :]] for i in range(len(row))]
    scores.append(rouge.row_scores(others, row, profile).mean(axis=0))
  return np.array(scores)


def words(texts: Sequence[str]) -> frozenset[str]:
  """Returns all words of the texts that are written in small letters."""
  return frozenset(w for text in texts for w in _WORD.findall(text) if w.islower())


def inventions(
  text: str, source: str, common: Collection[str]
) -> tuple[list[str], int]:
  """Finds the names and numbers of a text that its source does not contain.

  A name is a capitalised word; at the start of a sentence only if it is no common
  word. A number is one in digits; those up to twelve are found in words, too. Names of
  two words are looked for word by word. It is an indication: a right inference from
  "tomorrow" to "Monday" counts as an invention, a wrong name taken from the source
  does not.

  Args:
    text: a summary.
    source: what it is of.
    common: words that are no names, as from `words`.

  Returns:
    The names and numbers that the source lacks, and how many the text has.
  """
  known = {_plain(word) for word in _WORD.findall(source)}
  mentions = []
  for sentence in rouge.split_sentences(text):
    for position, word in enumerate(_WORD.findall(sentence)):
      if word[0].isdigit() or (
        word[0].isupper()
        and len(_plain(word)) > 1
        and not (position == 0 and _plain(word) in common)
      ):
        mentions.append(word)
  return [word for word in mentions if _plain(word) not in known], len(mentions)


def _plain(word: str) -> str:
  word = _POSSESSIVE.sub("", word).lower().replace(",", "")
  return _NUMBERS.get(word, word)

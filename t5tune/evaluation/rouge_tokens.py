"""The words that ROUGE counts: rouge-score's, and py-rouge's of the dialogue papers.

https://github.com/Diego999/py-rouge cannot be imported with today's setuptools, and asks
NLTK for a download that its words do not need.
"""

import functools
import importlib.metadata
import re

from nltk.stem import porter
from nltk.tokenize import NLTKWordTokenizer
from rouge_score import tokenize, tokenizers

from t5tune import errors

_NO_WORD = re.compile("[^A-Za-z0-9]")
_STEMS = ("wordnet_key_value.txt", "wordnet_key_value_special_cases.txt")
_KEPT_WHOLE = ("cannot", "_cannot_")  # the Treebank's rules would part it


class RougeScoreTokenizer(tokenizers.Tokenizer):
  """rouge-score's own words, each of which is reduced to its stem but once.

  rouge-score reduces all words of a reference again for every answer to it, which took
  two thirds of its time.
  """

  def __init__(self, stemmer: bool = True):
    """Makes the tokenizer.

    Args:
      stemmer: whether to reduce words.
    """
    self._stemmer = porter.PorterStemmer() if stemmer else None
    if stemmer:
      self._stemmer.stem = functools.cache(self._stemmer.stem)

  def tokenize(self, text: str) -> list[str]:
    """Returns the words of a text."""
    return tokenize.tokenize(text, self._stemmer)


class PyRougeTokenizer(tokenizers.Tokenizer):
  """Lower-cased words by the Penn Treebank's rules, each reduced to its stem.

  The stem of a word of four letters or more is what py-rouge's table of WordNet forms
  says, else that of Porter's algorithm as first published.
  """

  def __init__(self, stemmer: bool = True):
    """Makes the tokenizer.

    Args:
      stemmer: whether to reduce words.

    Raises:
      UserError: py-rouge, which holds the table, is not installed.
    """
    self._words = NLTKWordTokenizer()
    self._stem = functools.cache(self._stem_of if stemmer else str)
    self._known = _known_stems() if stemmer else {}
    self._porter = porter.PorterStemmer(porter.PorterStemmer.ORIGINAL_ALGORITHM)

  def tokenize(self, text: str) -> list[str]:
    """Returns the words of a text."""
    text = _NO_WORD.sub(" ", text.lower()).strip()
    words = self._words.tokenize(text.replace(*_KEPT_WHOLE))
    words = [self._stem(word) for word in words]
    return " ".join(words).replace(*reversed(_KEPT_WHOLE)).split()

  def _stem_of(self, word: str) -> str:
    if len(word) <= 3:
      return word
    return self._known.get(word) or self._porter.stem(word)


@functools.cache
def _known_stems() -> dict[str, str]:
  stems = {}
  for name in _STEMS:
    try:
      file = importlib.metadata.distribution("py-rouge").locate_file(f"rouge/{name}")
      lines = file.read_text(encoding="utf-8").splitlines()
    except (importlib.metadata.PackageNotFoundError, OSError) as e:
      raise errors.UserError(
        f"py-rouge's stems are missing ({e}): pip install 'py-rouge>=1.1,<2'."
      ) from e
    stems |= dict(line.split("|") for line in lines if line)
  return stems

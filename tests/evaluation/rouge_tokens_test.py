"""py-rouge's words."""

import importlib.metadata

import pytest

from t5tune.errors import UserError
from t5tune.evaluation import rouge_tokens


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("#Person1# can't wait!", ["person1", "can", "t", "wait"]),
    ("We CANNOT go.", ["we", "cannot", "go"]),
    ("I'm gonna leave", ["i", "m", "gon", "na", "leav"]),
    ("Eve was taking buses", ["eve", "was", "take", "buse"]),
    ("", []),
    ("?!", []),
  ],
)
def test_words(text, words):
  assert rouge_tokens.PyRougeTokenizer().tokenize(text) == words


def test_forms_that_no_rule_reduces_stand_in_the_table():
  tokenize = rouge_tokens.PyRougeTokenizer().tokenize
  assert tokenize("children went") == ["child", "go"]
  assert rouge_tokens.PyRougeTokenizer(stemmer=False).tokenize("children went") == [
    "children",
    "went",
  ]


def test_without_the_table_the_package_is_named(monkeypatch):
  def missing(name):
    raise importlib.metadata.PackageNotFoundError(name)

  monkeypatch.setattr(importlib.metadata, "distribution", missing)
  rouge_tokens._known_stems.cache_clear()
  with pytest.raises(UserError, match="pip install 'py-rouge"):
    rouge_tokens.PyRougeTokenizer()

"""LEAD-3, LONGEST-3, humans, and what a summary invents."""

import numpy as np
import pytest

from t5tune.evaluation import rouge, summaries

DIALOGUE = (
  "Ana: Hi!\n\nBo: We meet at 5, in Room 12.\n Ana: Ok.\nBo: Bring 1,000 nails."
)


def test_trivial_summaries():
  assert summaries.lead(DIALOGUE) == "Ana: Hi! Bo: We meet at 5, in Room 12. Ana: Ok."
  assert summaries.longest(DIALOGUE) == (
    "Bo: We meet at 5, in Room 12. Bo: Bring 1,000 nails. Ana: Hi!"
  )
  assert summaries.lead("one line") == summaries.longest("one line") == "one line"


def test_each_human_is_scored_against_the_others():
  rows = [["a b", "a b", "c d"], ["x", "x", "x"]]
  found = summaries.human_scores(rows, rouge.DEFAULT)
  # Two of the six ordered pairs agree.
  np.testing.assert_allclose(found[:, 0], [100 / 3, 100])
  assert summaries.human_scores([["a", "b"], ["c"]], rouge.DEFAULT) is None


@pytest.mark.parametrize(
  ("summary", "invented", "count"),
  [
    ("Ana and Bo meet at five in Room 12.", [], 5),
    ("Bo\u2019s nails: 1000.", [], 2),
    ("Cas and Ana meet at 6.", ["Cas", "6"], 3),
    ("They meet. We bring nails.", [], 0),  # common words begin sentences
    ("Later Dee comes.", ["Later", "Dee"], 2),
    ("", [], 0),
  ],
)
def test_inventions(summary, invented, count):
  common = summaries.words(["they came, we saw", DIALOGUE])
  found, mentions = summaries.inventions(summary, DIALOGUE, common)
  # 'five' is no mention: it is written in letters.
  assert (found, mentions) == (invented, count - ("five" in summary))


def test_a_number_in_words_is_in_the_source():
  assert summaries.inventions("It is at 5.", "at five", frozenset()) == (["It"], 2)

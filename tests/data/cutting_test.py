"""Cutting: the instruction stays, words stay whole, as much as fits is kept."""

import pytest

from t5tune.data import cutting
from t5tune.data.templates import Template
from t5tune.errors import UserError

TEMPLATE = Template("t", "Sum up. {text} By {name}:", "{name}")
WORDS = [f"w{i}" for i in range(50)]
TEXTS = {"text": " ".join(WORDS), "name": "Bo"}


def spare(budget):
  """Counts words as tokens."""
  return lambda text: budget - len(text.split())


@pytest.mark.parametrize(
  "place, kept",
  [
    ("end", WORDS[:16]),
    ("start", WORDS[-16:]),
    ("middle", [*WORDS[:8], "...", *WORDS[-7:]]),
  ],
)
def test_as_much_as_fits_is_kept(place, kept):
  cut = cutting.Cut("text", place)
  made = cutting.shortened(TEMPLATE, TEXTS, cut, spare(20))
  assert made == f"Sum up. {' '.join(kept)} By Bo:"


@pytest.mark.parametrize("place", cutting.PLACES)
@pytest.mark.parametrize("budget", range(5, 60, 7))
def test_it_fits_whatever_the_budget(place, budget):
  cut = cutting.Cut("text", place)
  made = cutting.shortened(TEMPLATE, TEXTS, cut, spare(budget))
  assert len(made.split()) <= budget
  assert len(made.split()) >= min(budget, 54) - 1
  assert made.startswith("Sum up. w") and made.endswith("By Bo:")


def test_a_text_that_cannot_fit_is_left_for_the_trim():
  whole = TEMPLATE.render("inputs", TEXTS)
  assert cutting.shortened(TEMPLATE, TEXTS, cutting.Cut("text"), spare(3)) == whole
  other = Template("t", "Who is {name}?", "{text}")
  made = cutting.shortened(other, TEXTS, cutting.Cut("text"), spare(1))
  assert made == "Who is Bo?"


def test_a_wrong_place_is_named():
  with pytest.raises(UserError, match="'midle'.*Did you mean 'middle'"):
    cutting.Cut("text", "midle")


@pytest.mark.parametrize("text", ["字" * 90, "\n".join(f"A:{i}" for i in range(40))])
@pytest.mark.parametrize("place", cutting.PLACES)
def test_text_without_spaces_is_cut_too(text, place):
  made = cutting.shortened(
    TEMPLATE, {**TEXTS, "text": text}, cutting.Cut("text", place), lambda t: 40 - len(t)
  )
  assert 30 < len(made) <= 40
  assert made.startswith("Sum up. ") and made.endswith("By Bo:")

"""Postprocessors: any output is survived, and references come from the row."""

import functools
import subprocess
import sys

import numpy as np
import pytest

from t5tune.data import postprocessors as post

ALL = [
  post.summary,
  post.stars,
  functools.partial(post.from_field, name="cs"),
  post.entities,
  post.final_answer,
]
NONSENSE = ["", " ", "\n", "⁇ ⁇", "9" * 400, ";;::", "the answer is", "-", "1e999", "٣"]
ROW = {
  "references": ["one", "two"],
  "stars": 2,
  "cs": " int x; ",
  "answer": "(C)",
  "tokens": ["Kari", "Moe", "in", "Oslo"],
  "tags": ["B-person", "I-person", "O", "B-location"],
}
# The same row as SeqIO's evaluation hands it over.
NUMPY_ROW = {
  "references": np.array([b"one", b"two"], object),
  "stars": np.int64(2),
  "cs": b" int x; ",
  "answer": b"(C)",
  "tokens": np.array([b"Kari", b"Moe", b"in", b"Oslo"], object),
  "tags": np.array([b"B-person", b"I-person", b"O", b"B-location"], object),
}
REFERENCES = [
  ["one", "two"],
  2,
  "int x;",
  [("person", "Kari Moe"), ("location", "Oslo")],
  "(C)",
]


@pytest.mark.parametrize("text", NONSENSE)
@pytest.mark.parametrize("fn", ALL)
def test_nonsense_is_survived(fn, text):
  for example in (None, {}, ROW, NUMPY_ROW):
    for is_target in (False, True):
      fn(text, example=example, is_target=is_target)
      fn(text.encode(), example=example, is_target=is_target)


@pytest.mark.parametrize("row", [ROW, NUMPY_ROW], ids=["plain", "numpy"])
@pytest.mark.parametrize(("fn", "expected"), zip(ALL, REFERENCES, strict=True))
def test_references_come_from_the_row_not_from_cut_text(fn, row, expected):
  assert fn("cut te", example=row, is_target=True) == expected
  # A prediction is never replaced by the reference.
  assert fn("cut te", example=row) != expected


def test_a_summary_without_references_is_its_own():
  assert post.summary(" text ", is_target=True) == ["text"]
  assert post.summary(" text ", example=ROW) == "text"


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("4", 4),
    (" 4 stars", 4),
    ("I give it 5.", 5),
    ("4 out of 5", 4),
    ("4.0", 4),
    ("Four stars", 4),
    ("one", 1),
    ("0", None),
    ("6", None),
    ("10", None),
    ("45", None),
    ("-3", None),
    ("3.5", None),
    ("someone", None),
    ("great", None),
  ],
)
def test_stars(text, expected):
  assert post.stars(text) == expected


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("none", []),
    ("person: Kari  Moe", [("person", "Kari Moe")]),
    ("Person : Bo;location:Oslo", [("person", "Bo"), ("location", "Oslo")]),
    ("creative work: Tea; Toast", [("creative work", "Tea; Toast")]),
    ("product: a; b; person: Bo", [("product", "a; b"), ("person", "Bo")]),
    ("location: 10:30 Club", [("location", "10:30 Club")]),
    ("person: ; location: Oslo", [("location", "Oslo")]),
    ("person: Bo; person: Bo", [("person", "Bo"), ("person", "Bo")]),
    ("planet: Mars", [("planet", "Mars")]),
    ("Oslo, Bo", []),
  ],
)
def test_entities(text, expected):
  assert post.entities(text) == expected


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("2 + 2 = 4. The answer is 4.", "4"),
    ("THE ANSWER IS: 4", "4"),
    ("The answer is 3? No. The answer is (B).", "(B)"),
    ("The answer is 3.5.", "3.5"),
    ("yes", "yes"),
    ("The answer is", ""),
  ],
)
def test_final_answer(text, expected):
  assert post.final_answer(text) == expected


def test_scoring_needs_no_tensorflow():
  code = (
    "import sys; from t5tune.data import postprocessors;"
    "from t5tune.evaluation import rouge, text_metrics;"
    "assert not {'tensorflow', 'seqio', 'jax'} & set(sys.modules)"
  )
  assert subprocess.run([sys.executable, "-c", code]).returncode == 0

"""Preprocessors as tables of input and output."""

import pytest
import tensorflow as tf

from t5tune.data import postprocessors, preprocessors
from t5tune.errors import UserError


def run(step, row, **kwargs):
  """Returns one row after a preprocessor, with bytes as text."""
  dataset = tf.data.Dataset.from_tensors({k: tf.constant(v) for k, v in row.items()})
  (row,) = step(dataset, **kwargs).as_numpy_iterator()
  return {k: postprocessors.field(row, k) for k in row}


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("A: hi\r\nB: ho", "A: hi\nB: ho"),
    ("A: hi\rB: ho\r\n", "A: hi\nB: ho"),
    ("  A: hi  \r\n \t \r\n\n  B: ho ;-) \n", "A: hi\nB: ho ;-)"),
    ("one  line", "one  line"),
    ("", ""),
  ],
)
def test_clean_lines(text, expected):
  row = run(preprocessors.clean_lines, {"a": text, "b": text, "c": text}, fields="ab")
  assert row == {"a": expected, "b": expected, "c": text}


@pytest.mark.parametrize(
  ("texts", "references"),
  [
    (("one", "", ""), ["one"]),
    (("", "first", "second"), ["first", "second"]),
    (("one", "two", "three"), ["one", "two", "three"]),
  ],
)
def test_collect_references(texts, references):
  row = dict(zip("abc", texts, strict=True))
  out = run(preprocessors.collect_references, row, fields=("a", "b", "c"))
  assert out["references"] == references
  assert out["a"] == references[0]
  assert out["b"] == row["b"]


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("so 2 = 2", "so 2 = 2."),
    ("so 2 = 2 \n", "so 2 = 2."),
    ("Done.", "Done."),
    ("Really?", "Really?"),
    ("é", "é."),
    ("", ""),
  ],
)
def test_end_with_period(text, expected):
  row = run(preprocessors.end_with_period, {"a": text}, field="a")
  assert row["a"] == expected


ENTITIES = [
  ("O O", "none"),
  ("B-person O", "person: a"),
  ("O B-creative-work", "creative work: b"),
  ("B-person I-person I-person", "person: a b c"),
  ("B-person B-person", "person: a; person: b"),
  ("B-person O I-person", "person: a; person: c"),
  ("I-group I-person O", "group: a; person: b"),
  ("B-group I-person I-person B-group", "group: a; person: b c; group: d"),
]


@pytest.mark.parametrize(("tags", "spelt"), ENTITIES)
def test_spell_entities_and_its_way_back(tags, spelt):
  row = {"tags": tags.split(), "tokens": list("abcd"[: len(tags.split())])}
  out = run(preprocessors.spell_entities, row)
  assert out["entities"] == spelt
  assert out["text"] == " ".join(row["tokens"])
  # The reference from the tags is what a perfect output is read as.
  reference = postprocessors.entities("", example=row, is_target=True)
  assert postprocessors.entities(spelt) == reference


def test_add_row_key_is_stable_and_tells_rows_apart():
  rows = [("ab", "c"), ("a", "bc"), ("ab", "c")]
  keys = [
    run(preprocessors.add_row_key, {"x": x, "y": y}, fields=("x", "y"))["row_key"]
    for x, y in rows
  ]
  assert keys[0] == keys[2] != keys[1]
  # Draws follow from it, so it may not change.
  assert keys[0] == 2790339150771371427
  assert all(key >= 0 for key in keys)


@pytest.mark.parametrize(
  ("step", "kwargs"),
  [
    (preprocessors.clean_lines, {"fields": ("txt",)}),
    (preprocessors.collect_references, {"fields": ("txt",)}),
    (preprocessors.add_row_key, {"fields": ("txt",)}),
    (preprocessors.end_with_period, {"field": "txt"}),
    (preprocessors.spell_entities, {"tokens": "txt"}),
  ],
)
def test_a_field_the_rows_lack_is_named(step, kwargs):
  with pytest.raises(UserError, match=f"{step.__name__}.*'txt'.*'text'.*tags, text"):
    run(step, {"text": "a", "tags": ["O"]}, **kwargs)

"""Few-shot: what is shown before a row, and what never is."""

import collections

import pytest
import tensorflow as tf

from t5tune.data import drawing, few_shot, sources, templates, vocabularies
from t5tune.data.templates import Template
from t5tune.errors import UserError

FORMS = [Template("q", "Say {word}.", "{word}!"), Template("r", "{word}?", "{word}!")]
COUNT = 40


def rows(split):
  """Twenty words, each of them twice."""
  return [{"word": f"n{i % 20}"} for i in range(COUNT)]


SOURCE = sources.GeneratedSource(rows, {"word": str}, ["train", "validation"])


def build(shots, length=None, vocabulary=None, pass_index=0, split="train", **drawn):
  step = templates.fill(FORMS, shots=shots)
  features = vocabularies.output_features(vocabulary) if vocabulary else None
  with drawing.training(pass_index, **drawn):
    made = step(SOURCE.get_dataset(split), length, features)
  return list(made.as_numpy_iterator())


def shots(most=3, share=1.0):
  return few_shot.Shots(most, share, SOURCE)


def test_exemplars_take_the_rows_template_and_never_its_words():
  for row in build(shots()):
    word = row["word"].decode()
    *shown, query = row["inputs"].decode().split("\n\n")
    assert 1 <= len(shown) <= 3 and len(shown) == row["shots"]
    form = "Say {}." if row["template"] == b"q" else "{}?"
    assert query == form.format(word)
    words = []
    for exemplar in shown:
      asked, answer = exemplar.split("\n")
      assert asked == form.format(answer.removesuffix("!"))
      words.append(answer.removesuffix("!"))
    assert word not in words  # nor a duplicate of the row
  assert len({row["shots"] for row in build(shots())}) == 3


def test_a_draw_follows_from_key_pass_and_seed_only():
  def texts(**drawn):
    return [row["inputs"] for row in build(shots(), **drawn)]

  first = texts()
  assert texts() == first
  for other in (texts(pass_index=1), texts(seed=1)):
    assert sum(a != b for a, b in zip(first, other, strict=True)) > COUNT / 2


def test_a_share_of_the_rows_shows_any():
  source = sources.GeneratedSource(
    lambda split: ({"word": f"n{i}"} for i in range(2000)), {"word": str}, ["train"]
  )
  step = templates.fill(FORMS, shots=few_shot.Shots(2, 0.25, source))
  counts = collections.Counter(
    row["shots"] for row in step(source.get_dataset("train")).as_numpy_iterator()
  )
  assert abs(counts[0] - 1500) < 80  # four standard deviations
  assert abs(counts[1] - counts[2]) < 90


def test_exemplars_are_pruned_to_the_budget(vocabulary):
  encode = vocabularies.Tokenizer(vocabulary).encode
  length = {"inputs": 24, "targets": 16}
  whole = build(shots(most=5))
  made = build(shots(most=5), length, vocabulary)
  for long, row in zip(whole, made, strict=True):
    assert len(encode(row["inputs"].decode())) < 24
    assert row["shots"] <= long["shots"]
    if row["shots"] < long["shots"]:  # one more would not have fitted
      parts = long["inputs"].decode().split("\n\n")
      more = "\n\n".join([*parts[: row["shots"] + 1], parts[-1]])
      assert len(encode(more)) >= 24
  assert any(row["shots"] for row in made)


def test_evaluation_shows_none():
  step = templates.fill(FORMS, shots=shots())
  with drawing.evaluation():
    made = step(SOURCE.get_dataset("validation"))
  for row in made.as_numpy_iterator():
    assert row["inputs"] == b"Say %s." % row["word"]


def test_exemplars_pass_through_the_tasks_other_steps():
  def shout(dataset):
    return dataset.map(lambda r: {**r, "word": tf.strings.upper(r["word"])})

  step = templates.fill(FORMS, shots=few_shot.Shots(1, 1.0, SOURCE, (shout,)))
  made = step(shout(SOURCE.get_dataset("train")))
  for row in made.as_numpy_iterator():
    assert row["inputs"] == row["inputs"].replace(b"n", b"N").replace(b"\N", b"\n")


@pytest.mark.parametrize("most, share", [(0, 0.5), (2, -0.1), (2, 1.1)])
def test_wrong_numbers_are_named(most, share):
  with pytest.raises(UserError, match=f"most={most}, share={share}"):
    few_shot.Shots(most, share)

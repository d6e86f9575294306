"""Registration: an ordinary SeqIO task, and mistakes told at once."""

import functools

import pytest
import seqio

from t5tune.data import cutting, preprocessors, registration, sources, templates
from t5tune.data.templates import Template
from t5tune.errors import UserError

SOURCE = sources.GeneratedSource(
  lambda split: [{"word": "a b", "tags": ["x"]}],
  {"word": str, "tags": list[str]},
  ["train"],
)


@pytest.fixture
def add():
  def make(name="registered", source=SOURCE, **arguments):
    return registration.add(name, source, **arguments)

  yield make
  seqio.TaskRegistry.remove("registered")


def test_a_task_is_an_ordinary_seqio_task(add, vocabulary):
  forms = [Template("t", "Say {word}.", "{n}")]
  steps = [functools.partial(preprocessors.count_words, field="word", to="n")]
  task = add(forms=forms, steps=steps)
  assert task is seqio.TaskRegistry.get("registered")
  assert templates.of_task(task) == tuple(forms)
  assert not task.output_features["inputs"].vocabulary.escape
  with_own = task.replace(
    output_features=registration.vocabularies.output_features(vocabulary)
  )
  (row,) = with_own.get_dataset(None, "train").as_numpy_iterator()
  assert row["inputs_pretokenized"] == b"Say a b."
  assert row["targets_pretokenized"] == b"5"


def test_escape_is_a_property_of_both_features(add):
  task = add(forms=[Template("t", "{word}", "x")], escape=True)
  assert all(f.vocabulary.escape for f in task.output_features.values())


def test_steps_of_a_users_own_are_left_for_the_first_build(add):
  add(forms=[Template("t", "{made}", "x")], steps=[lambda dataset: dataset])


WRONG = [
  ({"forms": [Template("t", "{wrod}", "x")]}, "no field 'wrod'. Did you mean 'word'"),
  ({"forms": [Template("t", "{tags}", "x")]}, "'tags' is not one text or integer"),
  (
    {"forms": [Template("t", "{word}", "x")], "cut": cutting.Cut("wrod")},
    "no template has the field 'wrod'",
  ),
  ({"forms": []}, "given no templates"),
]


@pytest.mark.parametrize("arguments, message", WRONG)
def test_mistakes_are_named_at_registration(arguments, message):
  with pytest.raises(UserError, match=f"task 'mistaken': .*{message}"):
    registration.add("mistaken", SOURCE, **arguments)
  assert "mistaken" not in seqio.TaskRegistry.names()

"""Draws made again: the templates and texts that the store of a pass was made with."""

import functools
import itertools
from collections import Counter

import pytest
import seqio

from t5tune.data import (
  cutting,
  definitions,
  drawing,
  few_shot,
  index,
  pipelines,
  registration,
  sources,
  token_store,
)
from t5tune.data.inspection import drawn
from t5tune.data.templates import Template

FORMS = [
  Template("plain", "say: {text}", "{answer}"),
  Template("after", "{text} say", "{answer}"),
  Template("turned", "guess: {answer}", "{text}", ("inverted",)),
]


def generate(split):
  # Every other text is longer than targets may be.
  for i in range(200):
    yield {"text": f"words {i} " * (1 + i % 2 * 20), "answer": str(i)}


def drop_odd(dataset):
  return dataset.enumerate().filter(lambda i, _: i % 2 == 0).map(lambda _, row: row)


@pytest.fixture
def task(request):
  """A task with all that takes part in a draw; a parameter is added to its steps."""
  source = sources.GeneratedSource(generate, {"text": str, "answer": str}, ["train"])
  task = registration.add(
    "drawn",
    source,
    FORMS,
    shares={"inverted": 0.5},
    cut=cutting.Cut("text"),
    shots=few_shot.Shots(most=2, share=0.3),
  )
  yield task
  seqio.TaskRegistry.remove("drawn")


def asked(vocabulary, **changes) -> index.Request:
  values = {
    **{"mixture": "drawn", "task_modules": (), "data_dir": None},
    **{"vocabulary": str(vocabulary), "input_length": 96, "target_length": 24},
    **{"row_lengths": None, "batch_size": 4, "pack": True, "seed": 3},
    **{"train_steps": 1, "train_epochs": None, "max_passes": 1, "splits": ("train",)},
    **{"train": True, **changes},
  }
  return index.Request(**values)


def written(task, request, folder) -> tuple[token_store.TokenStore, list[dict]]:
  """Writes the store of a pass; returns it with the features of its examples."""
  wanted = pipelines.job(task, "train", request, folder, pass_index=0)
  pipelines.write(task, wanted, request, lambda: None)
  with drawing.training(0, request.seed, request.held_out_templates):
    dataset = definitions.with_vocabulary(task, request.vocabulary).get_dataset(
      request.lengths, "train", shuffle=False, seed=request.seed
    )
  return token_store.TokenStore(wanted.path), list(dataset.as_numpy_iterator())


@pytest.mark.parametrize("held_out", [(), ("after",), ("inverted",)])
def test_shares_and_texts_are_those_of_the_store(task, vocabulary, tmp_path, held_out):
  request = asked(vocabulary, held_out_templates=held_out)
  store, rows = written(task, request, tmp_path)
  counts = drawn.template_counts(task, request)
  assert counts == Counter(row["template"].decode() for row in rows)
  assert not held_out or counts["after" if "after" in held_out else "turned"] == 0
  if not held_out:  # half of the rows do not fit where they are to be targets
    assert 0 < counts["turned"] < 80
  records = [0, 57, 141, 199]
  for made, record in zip(
    drawn.rows(task, request, store, records), records, strict=True
  ):
    for name in ("inputs_pretokenized", "targets_pretokenized", "template", "shots"):
      assert made[name] == rows[record][name]


def test_a_step_behind_the_template_that_drops_rows_hides_the_texts(
  vocabulary, tmp_path
):
  source = sources.GeneratedSource(generate, {"text": str, "answer": str}, ["train"])
  made = registration.add("drawn", source, FORMS[:2])
  seqio.TaskRegistry.remove("drawn")
  steps = list(made._preprocessor_constructor_args)
  task = made.replace(preprocessors=[steps[0], drop_odd, *steps[1:]])
  request = asked(vocabulary)
  store, _ = written(task, request, tmp_path)
  assert len(store) == 100
  assert drawn.rows(task, request, store, [1, 50, 99]) == [{}, {}, {}]


def test_a_task_without_templates_has_texts_and_no_shares(vocabulary, tmp_path):
  source = sources.GeneratedSource(generate, {"text": str, "answer": str}, ["train"])
  keys = {"inputs": "text", "targets": "answer"}
  rekey = functools.partial(seqio.preprocessors.rekey, key_map=keys)
  made = registration.add("drawn", source, FORMS[:1])
  seqio.TaskRegistry.remove("drawn")
  steps = list(made._preprocessor_constructor_args)
  task = made.replace(preprocessors=[rekey, *steps[1:]])
  request = asked(vocabulary)
  store, _ = written(task, request, tmp_path)
  assert drawn.template_counts(task, request) is None
  made = drawn.rows(task, request, store, [0, 2])
  texts = [row["text"] for row in itertools.islice(generate("train"), 3)]
  assert [row["inputs_pretokenized"].decode() for row in made] == [texts[0], texts[2]]


def test_the_vocabulary_is_the_requests(task, vocabulary):
  # The task itself carries T5's public one, which cannot be read here.
  assert "gs://" in task.output_features["inputs"].vocabulary.sentencepiece_model_file
  used = definitions.with_vocabulary(task, vocabulary)
  assert drawn.template_counts(task, asked(vocabulary)).total() == 200
  assert used.output_features["inputs"].vocabulary.vocab_size > 0

"""Tests of the demo's rows, tasks and vocabulary."""

import functools
import random
import re
import subprocess
import sys

import numpy as np
import pytest
import seqio
from t5tune.tasks import (
  demo,  # noqa: F401  (registers the tasks)
  demo_data,
  demo_dialogues,
  demo_entities,
  demo_methods,
  demo_names,
  demo_reviews,
)
from t5tune.tasks.demo_grammar import Draw, Pool

from t5tune.data import definitions, drawing, vocabularies
from t5tune.errors import UserError
from t5tune.evaluation import rouge

TASKS = tuple(demo_data.GENERATORS)
NAMES = (demo_names.FIRST_NAMES, demo_names.LAST_NAMES)
POOLS = {
  "demo_dialogue": (*NAMES, *(d.thing for d in demo_dialogues.DOMAINS)),
  "demo_rating": tuple(products for _, products in demo_reviews.KINDS),
  "demo_code": (demo_methods.NOUNS, demo_methods.ADJECTIVES),
  "demo_entities": (
    *NAMES,
    demo_names.PLACES,
    demo_names.COMPANY_STEMS,
    demo_names.PRODUCT_STEMS,
    demo_entities.OBJECTS,
  ),
}


@functools.cache
def rows(task: str, split: str) -> list[dict]:
  return list(demo_data.rows(task, split))


def columns(task: str, split: str) -> tuple[list[str], list[str]]:
  """Returns the input texts and the targets."""
  inputs, targets = zip(*(row.values() for row in rows(task, split)), strict=True)
  return list(inputs), [str(target) for target in targets]


def words(task: str, split: str) -> str:
  """Returns a split's text, identifiers taken apart, in lower case."""
  inputs, targets = columns(task, split)
  text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", "\n".join(inputs + targets)).lower()
  # Code makes plurals of its nouns.
  return re.sub(r"s\b", "", text)


@pytest.mark.parametrize("task", TASKS)
def test_splits_have_their_sizes_and_share_no_input(task):
  seen = set()
  for split in demo_data.SPLITS:
    inputs, _ = columns(task, split)
    assert len(inputs) >= (2000 if split == "train" else 150)
    assert len(set(inputs)) == len(inputs)
    assert seen.isdisjoint(inputs)
    seen.update(inputs)


@pytest.mark.parametrize("task", TASKS)
def test_values_held_back_stand_in_evaluation_alone(task):
  train = words(task, "train")
  held_back = [value for pool in POOLS[task] for value in pool.unseen]
  known = [value for pool in POOLS[task] for value in pool.seen]

  def found(values, text):
    stems = (re.sub(r"s\b", "", value.lower()) for value in values)
    return [v for v in stems if re.search(rf"\b{re.escape(v)}\b", text)]

  assert found(held_back, train) == []
  assert len(found(known, train)) > 0.9 * len(known)
  for split in ("validation", "test"):
    assert len(found(held_back, words(task, split))) > 0.3 * len(held_back)


def test_rows_are_the_same_in_every_process():
  # Hashes of texts differ from process to process; draws must not follow them.
  code = (
    "import zlib; from t5tune.tasks import demo_data as d;"
    "print([zlib.crc32(repr(list(d.rows(t, 'test'))).encode()) for t in d.GENERATORS])"
  )
  runs = {
    subprocess.run(
      [sys.executable, "-c", code],
      capture_output=True,
      text=True,
      check=True,
      env={"PYTHONHASHSEED": seed},
    ).stdout
    for seed in ("1", "2")
  }
  assert len(runs) == 1


@pytest.mark.parametrize("task", ["demo_dialogue", "demo_code", "demo_entities"])
def test_an_answer_that_ignores_the_input_scores_low(task):
  # A model has to score above 50; these leave it the 25 points it must win by.
  _, targets = columns(task, "validation")
  constants = columns(task, "train")[1][:200:20]
  best = max(rouge.rouge(targets, [c] * len(targets))["rougeL"] for c in constants)
  others = rouge.rouge(targets, targets[7:] + targets[:7])["rougeL"]
  assert max(best, others) < 35


def test_ratings_are_even_and_no_word_decides_them():
  reviews, stars = columns("demo_rating", "train")
  counts = {s: stars.count(s) / len(stars) for s in "12345"}
  assert all(0.15 < share < 0.25 for share in counts.values())
  vocabulary = {word for review in reviews for word in re.findall(r"[a-z-]+", review)}
  for word in vocabulary:
    having = [s for r, s in zip(reviews, stars, strict=True) if f" {word}" in r]
    if len(having) > 60:
      assert max(having.count(s) for s in "12345") < 0.8 * len(having)


def test_entities_of_a_sentence_stand_in_it_in_order():
  for row in rows("demo_entities", "test"):
    if row["entities"] == "none":
      continue
    names = [part.split(": ")[1] for part in row["entities"].split("; ")]
    places = [row["sentence"].index(name) for name in names]
    assert places == sorted(places)
  nothing = [r for r in rows("demo_entities", "train") if r["entities"] == "none"]
  assert 0 < len(nothing) < 0.1 * len(rows("demo_entities", "train"))


def test_translations_are_csharp():
  for row in rows("demo_code", "train"):
    assert not re.search(
      r"\b(String|boolean|Integer|extends|super|System|ArrayList)\b", row["csharp"]
    ), row
    assert row["csharp"].count("{") == row["csharp"].count("}")


def test_summaries_name_what_their_dialogues_name():
  for row in rows("demo_dialogue", "test"):
    speakers = {line.split(":")[0] for line in row["dialogue"].splitlines()}
    agents = {domain.agent for domain in demo_dialogues.DOMAINS}
    (name,) = speakers - agents
    assert name in row["summary"]


def test_phrases_settle_inner_brackets_and_capitalise_a_leading_slot():
  draw = Draw(random.Random("phrases"), "train")
  outcomes = {draw.phrase("{x}[ a[b|c]|]", x="one") for _ in range(60)}
  assert outcomes == {"One ab", "One ac", "One"}


def test_pools_show_unseen_values_outside_training_alone():
  pool = Pool.of("a, b", "c")
  drawn = {
    split: {Draw(random.Random(i), split).value(pool) for i in range(50)}
    for split in ("train", "test")
  }
  assert drawn == {"train": {"a", "b"}, "test": {"a", "b", "c"}}


@pytest.mark.parametrize(
  "task, split, near",
  [("demo_dialog", "train", "demo_dialogue"), ("demo_code", "trian", "train")],
)
def test_unknown_names_are_refused_with_the_nearest(task, split, near):
  with pytest.raises(UserError, match=f"Did you mean '{near}'"):
    next(demo_data.rows(task, split))


@pytest.mark.parametrize("task", TASKS)
def test_references_score_full_marks_and_fit_the_vocabulary(task):
  path = vocabularies.resolve("demo.model")
  registered = definitions.with_vocabulary(seqio.TaskRegistry.get(task), path)
  with drawing.evaluation():
    dataset = registered.get_dataset(None, split="test", shuffle=False)
  examples = list(dataset.as_numpy_iterator())
  assert len(examples) == len(rows(task, "test"))
  assert max(len(example["inputs"]) for example in examples) <= 160
  assert max(len(example["targets"]) for example in examples) <= 64
  tokens = np.concatenate([e[k] for e in examples for k in ("inputs", "targets")])
  assert vocabularies.UNK_ID not in tokens

  tokenizer = vocabularies.Tokenizer(path)
  targets, predictions = [], []
  for example in examples:
    text = example["targets_pretokenized"].decode()
    decoded = tokenizer.decode(example["targets"])
    targets.append(registered.postprocess_fn(text, example=example, is_target=True))
    predictions.append(
      registered.postprocess_fn(decoded, example=example, is_target=False)
    )
  for metric in registered.metric_fns:
    scores = metric(targets, predictions)
    perfect = 0 if "mean_absolute_error" in scores else 100
    # "none" has no pair of words for ROUGE-2.
    scores.pop("rouge2", None)
    assert all(score == pytest.approx(perfect) for score in scores.values()), scores


def test_mixture_holds_all_tasks_at_the_rates_of_their_rows():
  mixture = seqio.MixtureRegistry.get("demo")
  rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
  assert rates == {task: len(rows(task, "train")) for task in TASKS}

"""Baselines: what an answer scores that has learnt nothing."""

import collections
import math
import threading
from concurrent import futures

import eval_data
import numpy as np
import pytest

from t5tune.data import index, token_store, vocabularies
from t5tune.evaluation import baselines


@pytest.fixture(scope="module")
def tokenizer(vocabulary):
  return vocabularies.Tokenizer(vocabulary)


def rows(texts):
  return [{"targets_pretokenized": target} for _, target in texts]


class Exact:
  """A scorer that gives the share of equal texts, and keeps what it was given."""

  def __init__(self):
    self.given = []

  def score(self, task, rows, references, predictions):
    self.given.append(list(predictions))
    right = sum(r == p for r, p in zip(references, predictions, strict=True))
    return {"exact": right / len(rows), "length": -len(predictions[0])}


def test_unigram_loss_by_brute_force():
  train, size = [3, 3, 3, 5, 5, 1, 1, 1, 1], 8
  targets = [np.array([3, 5, 1]), np.array([7, 1])]
  counts = collections.Counter(train)
  probability = {
    token: (train.count(token) + 1) / (len(train) + size) for token in range(size)
  }
  assert sum(probability.values()) == pytest.approx(1)
  wanted = -np.mean([math.log(probability[t]) for row in targets for t in row])
  assert baselines.unigram_loss(counts, targets, size) == pytest.approx(wanted)


@pytest.mark.parametrize("count", [2, 3, 10, 101])
def test_every_row_gets_its_neighbour(count):
  order = np.random.default_rng(count).permutation(count).tolist()
  others = baselines.other_rows(order)
  places = {row: place for place, row in enumerate(order)}
  for row, other in enumerate(others):
    assert abs(places[row] - places[other]) == 1
    # In batches of any even size, but for the last of an odd number.
    paired = places[row] // 2 == places[other] // 2
    assert paired or (places[row] == count - 1 and count % 2)


def test_one_row_has_no_other():
  with pytest.raises(ValueError, match="one row"):
    baselines.other_rows([0])


def test_the_best_constant_answer(tmp_path, tokenizer):
  # "noon" is rare in training, but is the right answer more often than any other.
  train = [("x", "six")] * 30 + [("x", "noon"), ("x", "a ladder")]
  path = eval_data.write(tmp_path / "train", train, tokenizer)
  test = [("", "noon"), ("", "noon"), ("", "six"), ("", "chess")]
  references = [target for _, target in test]
  scorer = Exact()
  answer, scores = baselines.best_constant(
    scorer, "t", rows(test), references, token_store.TokenStore(path), tokenizer
  )
  assert answer == "noon"
  assert scores == {"exact": 0.5, "length": -4}
  assert all(len(set(given)) == 1 and len(given) == 4 for given in scorer.given)


def test_the_most_frequent_answer_is_tried(tmp_path, tokenizer):
  # Its words overlap with none of the references, but the task's metric may like it.
  train = [("x", f"Ana number {i}") for i in range(20)] + [("x", "six")] * 5
  path = eval_data.write(tmp_path / "train", train, tokenizer)
  test = rows([("", "Ana number"), ("", "number")])
  answer, _ = baselines.best_constant(
    Exact(), "t", test, ["six", "no"], token_store.TokenStore(path), tokenizer
  )
  assert answer == "six"


def test_one_training_row_is_enough(tmp_path, tokenizer):
  path = eval_data.write(tmp_path / "train", [("x", "six")], tokenizer)
  answer, scores = baselines.best_constant(
    Exact(), "t", rows([("", "")]), ["no"], token_store.TokenStore(path), tokenizer
  )
  assert (answer, scores["exact"]) == ("six", 0)


class Slow(Exact):
  """Takes until it is told to go on, for each answer."""

  def __init__(self):
    super().__init__()
    self.began, self.go_on = threading.Event(), threading.Event()

  def references(self, task, rows):
    return [row["targets_pretokenized"] for row in rows]

  def score(self, *given):
    self.began.set()
    assert self.go_on.wait(10)
    return super().score(*given)


def prepared(path, tokenizer, trained=True):
  train = [("x", "six"), ("x", "noon"), ("x", "a ladder"), ("x", "a book")]
  stores = (eval_data.write(path, train, tokenizer),) if trained else ()
  return index.PreparedTask("t", 1.0, stores, {})


def test_baselines_are_made_while_others_work(tmp_path, tokenizer):
  test, scorer = [("", "noon"), ("", "six")], Slow()
  targets = [np.array([3, 1]), np.array([5, 1])]
  task = prepared(tmp_path / "train", tokenizer)
  with baselines.beginning(scorer, task, rows(test), targets, tokenizer) as made:
    assert scorer.began.wait(10)
    scorer.go_on.set()
    found = made()
  store = token_store.TokenStore(task.passes[0])
  wanted = baselines.best_constant(
    Exact(), "t", rows(test), ["noon", "six"], store, tokenizer
  )
  assert (found["constant_answer"], found["constant"]) == wanted
  counts = store.target_token_counts
  assert found["unigram_loss"] == baselines.unigram_loss(
    counts, targets, tokenizer.size
  )


def test_who_leaves_does_not_wait_for_baselines(tmp_path, tokenizer):
  scorer, task = Slow(), prepared(tmp_path / "train", tokenizer)
  given = scorer, task, rows([("", "noon")]), [np.array([3, 1])], tokenizer
  with pytest.raises(KeyboardInterrupt), baselines.beginning(*given) as made:
    assert scorer.began.wait(10)
    raise KeyboardInterrupt
  scorer.go_on.set()
  with pytest.raises(futures.CancelledError):
    made()
  assert len(scorer.given) == 1  # and none of the other answers


def test_a_task_that_is_not_trained_has_no_baselines(tmp_path, tokenizer):
  task = prepared(tmp_path / "train", tokenizer, trained=False)
  with baselines.beginning(Slow(), task, rows([("", "six")]), [], tokenizer) as made:
    assert made() == {}

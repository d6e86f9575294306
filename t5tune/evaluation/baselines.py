"""What scores mean: the answers of something that has learnt nothing."""

import collections
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from t5tune.data import index, token_store, vocabularies
from t5tune.evaluation import scoring

_POOL = 300  # training targets considered as a constant answer
_FINALISTS = 6  # of these, how many are scored with the task's own metrics


@contextlib.contextmanager
def beginning(
  scorer: scoring.Scorer,
  task: index.PreparedTask,
  rows: Sequence[dict],
  targets: Sequence[np.ndarray],
  tokenizer: vocabularies.Tokenizer,
) -> Iterator[Callable[[], dict[str, Any]]]:
  """Computes in a thread what asks no model, while one decodes.

  Args:
    scorer: the scorer.
    task: the task; its training store says what answers there are.
    rows: the evaluation rows.
    targets: their int32 target tokens.
    tokenizer: decodes tokens.

  Yields:
    A function that waits, and returns `unigram_loss`, `constant_answer` and `constant`
    as `evaluator.TaskResult` has them; none where nothing is trained on. Whoever leaves
    before does not wait.
  """
  if not task.passes:
    yield dict
    return
  given_up = threading.Event()

  def compute() -> dict[str, Any]:
    train = token_store.TokenStore(task.passes[0])
    loss = unigram_loss(train.target_token_counts, targets, tokenizer.size)
    references = scorer.references(task.name, rows)
    answer, scores = best_constant(
      *(scorer, task.name, rows, references, train, tokenizer), given_up.is_set
    )
    return {"unigram_loss": loss, "constant_answer": answer, "constant": scores}

  thread = futures.ThreadPoolExecutor(1)
  try:
    yield thread.submit(compute).result
  finally:
    given_up.set()
    thread.shutdown(wait=False)


def unigram_loss(
  train_counts: Mapping[int, int], targets: Sequence[np.ndarray], vocab_size: int
) -> float:
  """Returns the loss of a unigram model of the training targets.

  Args:
    train_counts: token id -> its count among the training targets.
    targets: int32 target tokens of each evaluation row.
    vocab_size: ids of the vocabulary; each is counted once more (Laplace).

  Returns:
    Mean negative log likelihood of a target token, in nats.
  """
  counts = np.ones(vocab_size)
  for token, count in train_counts.items():
    counts[token] += count
  log_probs = np.log(counts / counts.sum())
  return float(-np.mean(log_probs[np.concatenate(targets)]))


def best_constant(
  scorer: scoring.Scorer,
  task: str,
  rows: Sequence[dict],
  references: Sequence[Any],
  train: token_store.TokenStore,
  tokenizer: vocabularies.Tokenizer,
  given_up: Callable[[], bool] = lambda: False,
) -> tuple[str, dict[str, float]]:
  """Returns the training target that scores best as the answer to every row.

  Targets are ranked by the overlap of their words with the references; the best
  few, and the most frequent target, are scored with the task's own metrics.

  Args:
    scorer: the scorer.
    task: the task's name.
    rows: the evaluation rows.
    references: their references.
    train: the task's training store.
    tokenizer: decodes its targets.
    given_up: whether nobody waits for it any more.

  Returns:
    The answer and its scores.

  Raises:
    CancelledError: it was given up.
  """
  spread = np.unique(np.linspace(0, len(train) - 1, _POOL).round().astype(int))
  escape = (train.manifest.get("escape") or {}).get("targets", False)
  targets = [tokens for _, tokens in train.read(spread)]
  pool = collections.Counter(tokenizer.decode(t, escape) for t in targets)
  bags = [collections.Counter(r["targets_pretokenized"].split()) for r in rows]

  def overlap(answer: str) -> float:
    words = collections.Counter(answer.split())
    return sum(
      2 * (words & bag).total() / max((words.total() + bag.total()), 1) for bag in bags
    )

  finalists = sorted(pool, key=overlap, reverse=True)[:_FINALISTS]
  finalists += [answer for answer, _ in pool.most_common(2)]
  best = None
  for answer in dict.fromkeys(finalists):
    if given_up():
      raise futures.CancelledError
    scores = scorer.score(task, rows, references, [answer] * len(rows))
    if best is None or _headline(scores) > _headline(best[1]):
      best = answer, scores
  return best


def other_rows(order: Sequence[int]) -> list[int]:
  """Returns for each row another one: its neighbour in an order of the rows.

  The neighbours at the places 2k and 2k + 1 have each other, and the last of an odd
  number has the one before it. So rows that are evaluated in this order, an even number
  at a time, meet the other row in their own batch.

  Args:
    order: a permutation of the rows.

  Raises:
    ValueError: there is only one row.
  """
  if len(order) < 2:
    raise ValueError("one row has no other")
  others = [0] * len(order)
  for place, row in enumerate(order):
    neighbour = place ^ 1
    others[row] = order[neighbour if neighbour < len(order) else place - 1]
  return others


def _headline(scores: Mapping[str, float]) -> float:
  return next(iter(scores.values()))

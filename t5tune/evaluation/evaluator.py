"""The evaluator: decodes every task of a mixture, scores it, and takes its loss."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from t5tune import errors, processes
from t5tune.data import index, token_store, vocabularies
from t5tune.evaluation import (
  baselines,
  batch_runner,
  programs,
  scored_mixture,
  scoring,
)
from t5tune.models import decoding
from t5tune.training.train_state import Model

# Rows of a task that are also given other inputs, about: a forward pass more.
_SWAPPED_ROWS = 64


@dataclasses.dataclass(frozen=True)
class TaskResult:
  """The evaluation of a task.

  Attributes:
    task: the task's name.
    split: the split whose rows were used.
    scores: metric -> value; the first is the headline.
    loss: mean negative log likelihood of a target token, in nats.
    shuffled_loss: the same with the inputs of other rows, which are about as long; of
      many rows, `loss` and what this made of some of their batches, spread over the
      lengths. None of a single row, or where not everything was asked for.
    unigram_loss: the loss of a unigram model of the training targets, or None.
    constant: scores of the best constant answer, or None.
    constant_answer: that answer, or None.
    shuffled: scores of the predictions for the same other inputs, or None.
    mean_length: mean length of the predictions, in tokens.
    decode_length: most tokens that were decoded: enough for every reference.
    at_cap: share of predictions cut there, 0 to 1.
    rows: the rows' features, with `prediction`, whether it was `cut`, and `references`
      added.
    templates: template -> scores, for every template of the task, or None.
  """

  task: str
  split: str
  scores: dict[str, float]
  loss: float
  shuffled_loss: float | None
  unigram_loss: float | None
  constant: dict[str, float] | None
  constant_answer: str | None
  shuffled: dict[str, float] | None
  mean_length: float
  decode_length: int
  at_cap: float
  rows: list[dict[str, Any]]
  templates: dict[str, dict[str, float]] | None = None

  @property
  def headline(self) -> tuple[str, float]:
    """Name and value of the task's headline score."""
    return next(iter(self.scores.items()))

  def summary(self) -> dict[str, Any]:
    """All but the rows, as JSON values."""
    values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    return {**values, "rows": len(self.rows)}


class _Asked(NamedTuple):
  """Rows of a task under one template, and the most tokens of any target there."""

  examples: list[tuple[np.ndarray, np.ndarray]]
  rows: list[dict[str, Any]]
  escape: bool  # as `Tokenizer.decode` takes it
  longest: int


class _Answers(NamedTuple):
  """What a model answered to a task's rows, under one template."""

  rows: list[dict[str, Any]]
  references: list[Any]
  outputs: list[np.ndarray]
  predictions: list[str]
  others: list[int] | None  # for each row, the one whose inputs it was also given
  loss: float  # of a target token
  shuffled_loss: float | None  # the same with other inputs
  scores: dict[str, float]
  decode_length: int


class Evaluator:
  """Evaluates parameters on the tasks of a prepared mixture."""

  def __init__(
    self,
    model: Model,
    mesh: Mesh,
    config: programs.EvalConfig,
    mixture: index.PreparedMixture,
    tokenizer: vocabularies.Tokenizer,
    scorer: scoring.Scorer,
  ):
    self._config, self._mixture = config, mixture
    self._tokenizer, self._scorer = tokenizer, scorer
    self._runner = batch_runner.BatchRunner(model, mesh, config)

  def evaluate(
    self,
    params: Any,
    split: str,
    fallback: str | None = None,
    max_examples: int | None = None,
    progress: Callable[[str, int, int, float], None] = lambda *told: None,
    full: bool = False,
  ) -> list[TaskResult]:
    """Evaluates every task that has the split.

    Args:
      params: the model's parameters.
      split: the split to read.
      fallback: the split for tasks that lack the first.
      max_examples: rows of a task, spread evenly over the split; None for all.
      progress: told of the task, its rows done and their number, and the share of all
        tasks' rows that is done, 0 to 1.
      full: whether to score each row, the best constant answer and shuffled
        inputs, too.

    Returns:
      A result for each task that has one of the splits. All processes decode, the
      primary alone scores; elsewhere there are none.

    Raises:
      UserError: no task has one of them.
    """
    chosen = [
      (task, next((s for s in (split, fallback) if s in task.splits), None))
      for task in self._mixture.tasks
    ]
    chosen = [(task, used) for task, used in chosen if used is not None]
    counts = [self._rows_of(*one, max_examples, full) for one in chosen]
    if chosen and processes.is_primary():
      self._scorer.begin()
    results = []
    for number, (task, used) in enumerate(chosen):
      before = sum(counts[:number])

      def report(done, total, task=task, before=before):
        progress(task.name, done, total, (before + done) / sum(counts))

      made = self._evaluate_task(params, task, used, max_examples, full, report)
      results += [made] if made else []
    if not chosen:
      splits = sorted({s for t in self._mixture.tasks for s in t.splits})
      raise errors.UserError(
        f"no task of {self._mixture.name!r} has a split {split!r}"
        f"{f' or {fallback!r}' if fallback else ''}; there is: {', '.join(splits)}."
        " Set EVAL_SPLIT and TEST_SPLIT."
      )
    return results

  def _rows_of(self, task, split: str, max_examples: int | None, full: bool) -> int:
    """Returns how many rows of a task are decoded, under all templates together."""
    stores = (task.variants.get(split) or {}) if full else {}
    count = len(token_store.TokenStore(task.splits[split]))
    return min(count, max_examples or count) * max(1, len(stores))

  def tasks_with(self, split: str) -> list[str]:
    """Returns the names of the tasks that have a split."""
    return [task.name for task in self._mixture.tasks if split in task.splits]

  def metrics_of(self, name: str, split: str) -> list[str]:
    """Returns the metrics of a task that has the split, found on one row of it."""
    task = next(t for t in self._mixture.tasks if t.name == name)
    rows = token_store.TokenStore(task.splits[split]).rows[:1]
    answers = [row["targets_pretokenized"] for row in rows]
    references = self._scorer.references(name, rows)
    return list(self._scorer.score(name, rows, references, answers))

  def _evaluate_task(self, params, task, split, max_examples, full, progress):
    # Under every template, where that was asked for; the first one's are the scores.
    stores = {"": task.splits[split], **(task.variants.get(split, {}) if full else {})}
    named = list(stores)[1:]
    if named:
      del stores[""]
    by_template, asked = {}, self._read(next(iter(stores.values())), max_examples)
    with self._unlearnt(task, asked, full) as unlearnt:
      for number, (template, path) in enumerate(stores.items()):
        report = functools.partial(_further, progress, number, len(stores))
        if number:
          asked = self._read(path, max_examples)
        # While the primary scores, the others wait here and not with busy devices.
        processes.wait_for_all(f"evaluation of {path}")
        answers = self._answer(params, task.name, asked, full, report)
        if answers:
          by_template[template] = answers.scores
        if number == 0:
          first = answers
      if first is None:
        return None
      extra = unlearnt()
    if full and first.others:
      swapped = [first.predictions[i] for i in first.others]
      extra["shuffled"] = self._scorer.score(
        task.name, first.rows, first.references, swapped
      )
    return TaskResult(
      task=task.name,
      split=split,
      scores=first.scores,
      templates=by_template if named else None,
      loss=first.loss,
      shuffled_loss=first.shuffled_loss,
      unigram_loss=extra.get("unigram_loss"),
      constant=extra.get("constant"),
      constant_answer=extra.get("constant_answer"),
      shuffled=extra.get("shuffled"),
      decode_length=first.decode_length,
      mean_length=float(np.mean([_length(tokens) for tokens in first.outputs])),
      at_cap=float(np.mean([decoding.EOS_ID not in t for t in first.outputs])),
      rows=self._kept_rows(task.name, first, full),
    )

  def _unlearnt(self, task, asked: _Asked, full) -> contextlib.AbstractContextManager:
    """Begins the baselines that ask no model, where they are wanted."""
    if not (full and processes.is_primary()):
      return contextlib.nullcontext(dict)
    targets = [targets for _, targets in asked.examples]
    return baselines.beginning(self._scorer, task, asked.rows, targets, self._tokenizer)

  def _read(self, path: str, max_examples: int | None) -> _Asked:
    """Reads a task's rows, or some of them spread over its store."""
    store = token_store.TokenStore(path)
    count = min(len(store), max_examples or len(store))
    chosen = np.linspace(0, len(store) - 1, count).round().astype(int)
    escape = (store.manifest.get("escape") or {}).get("targets", False)
    rows = [dict(store.rows[i]) for i in chosen]
    return _Asked(store.read(chosen), rows, escape, int(store.lengths[:, 1].max()))

  def _answer(self, params, name, asked: _Asked, full, progress) -> "_Answers | None":
    """Decodes rows and scores the answers.

    Returns:
      The answers, in the primary process.
    """
    examples, rows = asked.examples, asked.rows
    count = len(rows)
    order = sorted(range(count), key=lambda i: len(examples[i][0]))
    has_others = full and count > 1 and self._runner.has_pairs
    others = baselines.other_rows(order) if has_others else None
    # From the task's references, not from those of this batch: an answer depends on
    # nothing but its input.
    length = self._config.decode_length(asked.longest)
    outputs, sums, done = [None] * count, [], 0
    for number, members in enumerate(self._runner.batches(order)):
      swap = others if number % max(1, count // _SWAPPED_ROWS) == 0 else None
      decoded, batch_sums = self._runner.run(params, examples, members, swap, length)
      sums.append(batch_sums)
      for i, tokens in zip(members, decoded, strict=False):
        outputs[i] = tokens
      done += len(members)
      progress(done, count)
    if not processes.is_primary():
      return None
    predictions = [self._tokenizer.decode(tokens, asked.escape) for tokens in outputs]
    references = self._scorer.references(name, rows)
    scores = self._scorer.score(name, rows, references, predictions)
    return _Answers(
      *(rows, references, outputs, predictions, others),
      *batch_runner.mean_losses(np.array(sums)),
      scores,
      decode_length=length,
    )

  def _kept_rows(self, name, answers: "_Answers", full) -> list[dict[str, Any]]:
    """Returns the rows with what the model answered, and if `full` their scores."""
    kept = zip(
      *(answers.rows, answers.predictions, answers.references, answers.outputs),
      strict=True,
    )
    for row, prediction, reference, tokens in kept:
      row |= {"prediction": prediction, "references": _as_list(reference)}
      row["cut"] = decoding.EOS_ID not in tokens
      if full:
        row["scores"] = self._scorer.score(name, [row], [reference], [prediction])
    return answers.rows


def for_run(
  run, scored: scored_mixture.Scored, model: Model, mesh: Mesh, tokenizer
) -> Evaluator:
  """Returns the evaluator of a run.

  Args:
    run: the settings (`t5tune.run.Run`).
    scored: what is evaluated.
    model: the model.
    mesh: the mesh.
    tokenizer: the run's vocabulary.
  """
  lengths = (run.input_length, run.target_length)
  config = programs.EvalConfig(run.eval_batch_size, *lengths, run.beam)
  scorer = scoring.Scorer(scored.request)
  return Evaluator(model, mesh, config, scored.mixture, tokenizer, scorer)


def check_best_metric(evaluate: Evaluator, run) -> None:
  """Checks that BEST_METRIC is measured, on one row of each task that it names.

  Args:
    evaluate: the evaluator.
    run: the settings (`t5tune.run.Run`).

  Raises:
    UserError: it names a task or a metric that EVAL_SPLIT does not give.
  """
  split, chosen_by = run.eval_split, run.chosen_by
  chosen_by.check_tasks(evaluate.tasks_with(split), split)
  measured = {task: evaluate.metrics_of(task, split) for task in chosen_by.tasks}
  chosen_by.check_metrics(measured)


def _further(progress, number: int, count: int, done: int, total: int) -> None:
  """Reports how far one of several equal parts is as part of the whole."""
  progress(number * total + done, count * total)


def _length(tokens: np.ndarray) -> int:
  ends = np.flatnonzero(tokens == decoding.EOS_ID)
  return int(ends[0]) + 1 if len(ends) else len(tokens)


def _as_list(reference: Any) -> list:
  return list(reference) if isinstance(reference, (list, tuple)) else [reference]

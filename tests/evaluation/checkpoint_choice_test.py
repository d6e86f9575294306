"""Tests of what chooses a checkpoint."""

import dataclasses
import math

import pytest

from t5tune.errors import UserError
from t5tune.evaluation import checkpoint_choice
from t5tune.evaluation.checkpoint_choice import Best, BestMetric
from tests.evaluation.some_results import result

RESULTS = [
  result("first", scores={"rougeL": 40.0, "exact": 3.0}, loss=1.0),
  result("errors", scores={"mean_absolute_error": 0.5, "hits": 7.0}, loss=2.0),
]


@pytest.mark.parametrize(
  "setting,score",
  [
    ("average", (40.0 + 0.5) / 2),
    ("loss", -1.5),
    ("first/exact", 3.0),
    ("first/loss", -1.0),
    ("errors/mean_absolute_error", -0.5),
    ("errors/hits", 7.0),  # the metric's name counts, not the task's
    ({"first/rougeL": 3, "errors/hits": 1.0}, (3 * 40 + 7) / 4),
    ({"first/loss": 1.0, "errors/loss": 3.0}, -(1 + 6) / 4),
    ({"first/rougeL": 1.0, "errors/hits": -1.0}, (40 - 7) / 2),
  ],
  ids=str,
)
def test_scores(setting, score):
  assert BestMetric.of(setting).score(RESULTS) == pytest.approx(score)


def test_in_words():
  assert str(BestMetric.of("first/exact")) == "first/exact"
  composite = BestMetric.of({"first/exact": 2, "loss": 0.5})
  assert str(composite) == "2 first/exact + 0.5 loss"


@pytest.mark.parametrize(
  "setting", [{}, {"loss": 0}, {"loss": math.nan}, {"loss": "1"}]
)
def test_settings_that_rank_nothing(setting):
  with pytest.raises(UserError, match="BEST_METRIC"):
    BestMetric.of(setting)


def test_names_are_checked_before_training():
  check = BestMetric.of({"first/exact": 1.0, "average": 1.0}).check_tasks
  check(["first", "second"], "validation")
  with pytest.raises(UserError, match="'first/exact'.*Did you mean 'fist'"):
    check(["fist"], "validation")
  with pytest.raises(UserError, match="Did you mean 'average'"):
    BestMetric.of("avrage").check_tasks(["first"], "validation")
  measured = {"first": ["rougeL", "exact"]}
  BestMetric.of({"first/loss": 1.0, "first/exact": 1.0}).check_metrics(measured)
  with pytest.raises(UserError, match="Did you mean 'first/exact'"):
    BestMetric.of("first/exactt").check_metrics(measured)
  with pytest.raises(UserError, match="Did you mean 'first/exact'"):
    BestMetric.of("first/exactt").score(RESULTS)


def test_the_best_so_far():
  best = Best("average on validation")
  for step, score in enumerate((math.nan, 1.0, -math.inf, 2.0, 2.0, 1.5), start=1):
    best = best.after(score, step)
  # Of equal ones the first; what is no number is never the best.
  assert (best.score, best.step, best.since) == (2.0, 4, 2)
  assert not best.ended(None) and not best.ended(3) and best.ended(2)
  kept = dataclasses.asdict(best)
  assert Best("average on validation").restored(kept) == best
  other = Best("loss on validation")
  assert other.restored(kept) == other


def test_a_checkpoint_that_is_no_number_first():
  best = checkpoint_choice.Best("loss").after(math.nan, 5)
  assert best.step == 0 and best.after(-3.0, 10).step == 10

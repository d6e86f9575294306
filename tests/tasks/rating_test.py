"""Review rating: targets are the stars and nothing else."""

import pytest
import seqio
from task_examples import examples, get_task
from tiny_data import ROWS, write_rows

from t5tune.data import drawing
from t5tune.errors import UserError


def test_targets_are_the_stars(vocabulary, data_dir):
  with drawing.training(held_out=["inverted"]):
    rows = examples(get_task("sst5", vocabulary))
  for row, raw in zip(rows, ROWS["sst5"], strict=True):
    assert row["targets_pretokenized"].decode() == str(raw["stars"])
    assert raw["text"] in row["inputs_pretokenized"].decode()


def test_scores_are_accuracy_then_error():
  task = seqio.TaskRegistry.get("sst5")
  scores = {}
  for fn in task.metric_fns:
    scores |= fn(targets=[1, 5], predictions=[1, None])
  assert scores == {"accuracy": 50.0, "mean_absolute_error": 2.0}
  assert list(scores)[0] == "accuracy"


@pytest.mark.parametrize("stars", [0, 6, -1])
def test_stars_outside_one_to_five_are_named(data_dir, stars):
  write_rows(data_dir / "sst5" / "train.jsonl", [{"text": "a", "stars": stars}])
  with pytest.raises(UserError, match=f"train.jsonl:1: field 'stars' is {stars}:"):
    seqio.TaskRegistry.get("sst5").num_input_examples("train")

"""Which checkpoints `--checkpoint` means; scoring them is tested through `eval`."""

import pytest

from t5tune.errors import UserError
from t5tune.evaluation import checkpoint_scores


class Saved:
  """As `Checkpoints`: steps 2, 4 and 6, of which 4 scored best."""

  def steps(self):
    return [2, 4, 6]

  def latest(self):
    return 6

  def best(self, by):
    return 4


class Unscored(Saved):
  def best(self, by):
    return None


class Empty(Unscored):
  def steps(self):
    return []


@pytest.mark.parametrize(
  "which, steps",
  [("latest", [6]), ("best", [4]), ("all", [2, 4, 6]), ("2", [2]), ("6", [6])],
)
def test_chosen_steps(which, steps):
  assert checkpoint_scores.chosen_steps(Saved(), which, "loss on dev") == steps


@pytest.mark.parametrize(
  "saved, which, words",
  [
    (Saved, "3", "--checkpoint=3: give latest, best, all or .*: 2, 4, 6"),
    (Saved, "newest", "--checkpoint=newest: give latest"),
    (Saved, "-2", "--checkpoint=-2"),
    (Unscored, "best", "EVAL_STEPS = 0.*2, 4, 6"),
    (Empty, "latest", "no checkpoint yet"),
    (Empty, "all", "no checkpoint yet"),
  ],
)
def test_checkpoints_that_are_not_there(saved, which, words):
  with pytest.raises(UserError, match=words):
    checkpoint_scores.chosen_steps(saved(), which, "loss on dev")

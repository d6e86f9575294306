"""The commands of a study: an equal budget, and each from where it must start."""

import pathlib
import types

import pytest

from t5tune.errors import UserError
from t5tune.reporting import study_plan

FLAGS = types.SimpleNamespace(
  gin_file=["mine.gin"],
  overrides=[("DTYPE", "float32"), ("TRAIN_STEPS", "100")],
  data_dir=pathlib.Path("data"),
  store_dir=pathlib.Path("stores"),
  domain_gin_file="slow.gin",
  lora_gin_file="lora.gin",
)


def study(**changed) -> study_plan.Study:
  values = {"mixture": "all", "domain": "chat", "others": ("stars", "code")}
  values |= {"init": "google/flan-t5-small", "steps": 100, "domain_steps": 30}
  return study_plan.Study(**{**values, "seeds": 3, "other_seeds": 2, **changed})


@pytest.fixture
def commands(tmp_path):
  return study_plan.commands(study(), tmp_path, FLAGS)


def bindings(command) -> dict[str, str]:
  given = [a.removeprefix("--gin.") for a in command.line if a.startswith("--gin.")]
  assert len(given) == len(dict(command.overrides)) == len(command.overrides)
  return dict(g.split("=", 1) for g in given)


def test_every_way_has_the_same_number_of_updates(commands):
  for command in commands:
    head = 70 if command.scored_before else 0
    if command.module == "train":
      assert int(bindings(command)["TRAIN_STEPS"]) == command.steps
    if command.way != "before" and command.module == "train":
      assert head + command.steps == 100


def test_what_each_starts_from_and_learns(commands, tmp_path):
  learnt = {c.way: bindings(c)["MIXTURE"] for c in commands if c.module == "train"}
  assert learnt == {
    "before": "'all_before'",
    "single": "'chat'",
    "sequential": "'chat'",
    "replay": "'all_replay'",
    "multitask": "'all'",
    "lora": "'chat'",
  }
  for command in commands:
    given = bindings(command)
    assert given["EVAL_MIXTURE"] == "'all'" and given["SEED"] == str(command.seed)
    before = tmp_path / f"seed{command.seed}" / "before"
    later = command.way in ("sequential", "replay", "lora", "interpolated")
    assert command.scored_before == ((before, 70) if later else None)
    assert (given["INIT"] == repr(str(before))) == later
    trains = later and command.module == "train"
    assert ("--gin_file=slow.gin" in command.line) == trains
    assert ("--gin_file=lora.gin" in command.line) == (command.way == "lora")
  ends = next(c for c in commands if c.way == "interpolated").positional
  assert ends == [str(tmp_path / "seed0" / w) for w in ("before", "sequential")]


def test_seeds(commands):
  seeds = {w: [c.seed for c in commands if c.way == w] for w in study_plan.WAYS}
  few = ("single", "lora", "interpolated")
  assert seeds == {w: [0, 1] if w in few else [0, 1, 2] for w in study_plan.WAYS}


def test_the_weights_between_are_chosen_for_both_sides():
  assert study_plan.balanced(study()) == {
    "chat/loss": 0.5,
    "stars/loss": 0.25,
    "code/loss": 0.25,
  }


@pytest.mark.parametrize(
  "wrong, told",
  [
    ({"domain_steps": 0}, "--domain_steps=0"),
    ({"domain_steps": 100}, "--domain_steps=100"),
    ({"seeds": 0}, "--seeds=0"),
    ({"other_seeds": 0}, "--other_seeds=0"),
  ],
)
def test_a_study_that_cannot_be(wrong, told):
  with pytest.raises(UserError, match=told):
    study(**wrong)

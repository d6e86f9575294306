"""The tables and the picture of a study, from work directories with known scores."""

import json
import math
import re

import made_runs
import pytest

from t5tune.errors import UserError
from t5tune.evaluation import interpolation
from t5tune.reporting import study_plan, study_plots, study_scores

STUDY = study_plan.Study(
  mixture="all",
  domain="chat",
  others=("code",),
  init="scratch",
  steps=10,
  domain_steps=5,
  seeds=2,
  other_seeds=1,
)
CHAT = {"before": 10, "sequential": 30, "replay": 28, "multitask": 25}
CODE = {"before": 20, "sequential": 2, "replay": 15, "multitask": 18}


@pytest.fixture
def found(tmp_path):
  for way in study_plan.WAYS:
    for seed in STUDY.seeds_of(way):
      scores = {"chat": CHAT.get(way, 9.0) + 2 * seed, "code": CODE.get(way, 8.0)}
      made_runs.write(tmp_path / f"seed{seed}" / way, {5: scores}, ["chat"])
  task = {"task": "chat", "scores": {"rouge1": 12.0}, "loss": 3.0}
  other = {"task": "code", "scores": {"bleu": 6.0}, "loss": 1.5}
  rows = [
    {"alpha": 0.0, "score": -2.5, "tasks": [task, other]},
    {"alpha": 0.5, "score": -2.0, "tasks": [{**task, "loss": 2.5}, other]},
  ]
  file = tmp_path / "seed0" / "interpolated" / interpolation.FILE
  file.write_text(json.dumps({"asked": {}, "alphas": rows}))
  return study_scores.read(STUDY, tmp_path)


def test_both_sides_of_every_way(found):
  assert list(found.ways) == list(study_plan.WAYS)
  assert [b.domain_score for b in found.ways["sequential"]] == [30, 32]
  assert [b.others_score for b in found.ways["replay"]] == [18, 18]  # BLEU, x 1.2
  assert len(found.ways["lora"]) == 1
  assert found.chosen == {0: 0.5}
  assert [b.domain_loss for _, b in found.alphas[0]] == [3.0, 2.5]


def test_one_way_against_another_seed_by_seed(found):
  gains = study_scores.differences(found, "replay", "sequential")
  assert [g[1] for g in gains] == [-2, -2]
  assert [g[3] for g in gains] == pytest.approx([15.6, 15.6])


def test_the_tables(found):
  text = study_scores.markdown(found)
  lines = [[c.strip() for c in x.strip("|").split("|")] for x in text.splitlines()]
  rows = {line[0]: line[1:] for line in lines if len(line) > 4}
  assert rows["sequential"][2] == "31.00 ± 1.41 (+20.00)"
  assert rows["before"][2] == "11.00 ± 1.41"
  assert rows["lora"][0] == "1" and rows["lora"][2] == "9.00 (−1.00)"
  assert rows["replay over sequential"][1] == "−2.00, −2.00 (−2.00)"
  assert rows["chat"][:2] == ["40 test", "rouge1"] and len(rows["chat"]) == 9
  assert rows["0.5"] == ["2.500", "12.00", "1.500", "6.00"]
  assert "chosen: 0.5" in text and "ROUGE profile" in text


def test_the_picture_has_every_seed(found):
  drawn = study_plots.balance(found)
  assert drawn.startswith("<svg") and drawn.rstrip().endswith("</svg>")
  for way in ("sequential", "replay", "multitask", "lora", "interpolated"):
    assert re.search(rf">{way}<", drawn)
  assert ">single<" not in drawn  # it has nothing to forget
  assert drawn == study_plots.balance(found)


def test_errors_do_not_count_among_scores_that_are_better_when_higher():
  tasks = {
    "chat": {"scores": {"rouge1": 20.0}, "loss": 1.0},
    "stars": {"scores": {"mean_absolute_error": 3.0}, "loss": 2.0},
  }
  alone = study_scores.balance(tasks, "chat")
  assert alone.others_loss == 2.0 and math.isnan(alone.others_score)
  code = {"code": {"scores": {"bleu": 8.0}, "loss": 4.0}}
  both = study_scores.balance(tasks | code, "chat")
  assert (both.others_score, both.others_loss) == (8.0, 3.0)


def test_a_damaged_file_is_named(found, tmp_path):
  file = tmp_path / "seed0" / "interpolated" / interpolation.FILE
  file.write_text("{}")
  with pytest.raises(UserError, match=r"interpolation.json is damaged .*start again"):
    study_scores.read(STUDY, tmp_path)

"""EVAL_MIXTURE: what a run did not train on is scored before and after, too."""

import dataclasses
import json
import pathlib

import pytest
from tiny_project import prepare, request, start

from t5tune.data import index
from t5tune.evaluation import scored_mixture
from t5tune.reporting import forgetting, records


@pytest.fixture(scope="module")
def titles_alone(tmp_path_factory):
  """Makes a run on `tiny_titles` once; gives its work directory."""
  workdir = tmp_path_factory.mktemp("runs") / "titles"

  def made() -> pathlib.Path:
    if not workdir.exists():
      prepare(MIXTURE="tiny_titles")
      settings = {"MIXTURE": "tiny_titles", "EVAL_MIXTURE": "tiny_mixture"}
      assert start(workdir, **settings, BEST_METRIC="tiny_sums/loss") == 0
    return workdir

  return made


def scores(workdir, step) -> dict:
  kept = json.loads((workdir / "scores" / f"test-{step}.json").read_text())
  return {task["task"]: task for task in kept["tasks"]}


def test_all_its_tasks_are_scored(workplace, titles_alone):
  workdir = titles_alone()
  before, after = scores(workdir, 0), scores(workdir, 6)
  assert before.keys() == after.keys() == {"tiny_titles", "tiny_sums"}
  assert before["tiny_sums"]["loss"] != after["tiny_sums"]["loss"]
  # Its training rows are at hand, those of the other task are not.
  assert after["tiny_titles"]["constant"] is not None
  assert after["tiny_sums"]["constant"] is None
  trained = json.loads((workdir / "mixture.json").read_text())["tasks"]
  assert [task["name"] for task in trained] == ["tiny_titles"]
  meta = json.loads((workdir / "checkpoints/6/meta.json").read_text())
  assert meta["best"]["by"] == "tiny_sums/loss on validation"
  said = forgetting.sentence(records.read([workdir])[0])
  assert "on tiny_titles" in said and "elsewhere" in said


def test_a_saved_configuration_scores_the_same(workplace, titles_alone, capsys):
  from t5tune import eval

  workdir = titles_alone()
  kept = (workdir / "scores/test-6.json").read_text()
  (workdir / "scores/test-6.json").unlink()
  arguments = [f"--gin_file={workdir}/config.gin", f"--workdir={workdir}"]
  assert eval.main([*arguments, "--data_dir=data", "--store_dir=stores"]) == 0
  assert (workdir / "scores/test-6.json").read_text() == kept


def test_runs_of_any_length_share_what_is_scored(workplace):
  found = []
  for steps in (6, 7):
    asked = request(MIXTURE="tiny_titles", TRAIN_STEPS=steps, BATCH_SIZE=steps)
    mixture = prepare(MIXTURE="tiny_titles", TRAIN_STEPS=steps, BATCH_SIZE=steps)
    stores = pathlib.Path("stores")
    made = scored_mixture.prepare("tiny_mixture", asked, mixture, stores)
    found.append(index.path(stores, made.request))
    assert {t.name: bool(t.passes) for t in made.mixture.tasks} == {
      "tiny_sums": False,
      "tiny_titles": True,
    }
    same = scored_mixture.prepare(None, asked, mixture, stores)
    assert same == scored_mixture.Scored(asked, mixture)
  assert found[0] == found[1]
  assert dataclasses.replace(made.request, named_by="MIXTURE") != made.request


def test_a_wrong_name_is_called_what_the_user_set(workplace, tmp_path, capfd):
  prepare(MIXTURE="tiny_titles")
  with pytest.raises(SystemExit) as stopped:
    start(tmp_path / "new", MIXTURE="tiny_titles", EVAL_MIXTURE="tiny_mixtur")
  assert stopped.value.code == 2
  told = capfd.readouterr().err
  assert "EVAL_MIXTURE = 'tiny_mixtur'" in told and "'tiny_mixture'" in told
  assert not (tmp_path / "new").exists()

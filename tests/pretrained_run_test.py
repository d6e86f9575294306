"""A run from weights: it starts where they are, goes on and is scored without them."""

import json
import shutil

import pytest
from tiny_project import contents, records, start

from t5tune import convert


@pytest.fixture
def exported(finished, tmp_path):
  """The finished run's last checkpoint, as a Hugging Face directory."""
  folder = tmp_path / "hf"
  assert convert.main([str(finished), str(folder), "--to", "hf"]) == 0
  return folder


def scores(workdir, step):
  saved = json.loads((workdir / "scores" / f"test-{step}.json").read_text())
  return {task["task"]: task["scores"] for task in saved["tasks"]}


def losses(workdir, step):
  saved = json.loads((workdir / "scores" / f"test-{step}.json").read_text())
  return [task["loss"] for task in saved["tasks"]]


def test_it_starts_goes_on_and_is_scored(finished, exported, tmp_path, capsys):
  init = exported
  bindings = {"INIT": str(init), "VOCABULARY": None, "t5__T5Config__mlp_dim": 64}
  workdir = tmp_path / "run"
  assert start(workdir, TRAIN_STEPS=2, **bindings) == 0
  shown = capsys.readouterr().out
  assert f"Architecture, from {init}\n  mlp_dim = 32 (gin: 64)" in shown
  assert scores(workdir, 0) == scores(finished, 6)
  assert losses(workdir, 0) == losses(finished, 6)
  trained = [line["loss"] for line in records(workdir) if line["kind"] == "train"]
  first = next(line for line in records(finished) if line["kind"] == "train")
  assert len(trained) == 2 and trained[0] < first["loss"]

  shutil.rmtree(init)
  before = contents(workdir / "scores")
  assert start(workdir, "eval", TRAIN_STEPS=2, **bindings) == 0
  assert contents(workdir / "scores") == before
  assert start(workdir, TRAIN_STEPS=3, **bindings) == 0
  assert "Continuing from step 2" in capsys.readouterr().out
  assert start(tmp_path / "new", TRAIN_STEPS=3, **bindings) == 2
  assert f"INIT = '{init}': there is no such directory" in capsys.readouterr().err
  assert not (tmp_path / "new").exists()


def test_a_first_save_that_was_cut_short_is_no_checkpoint(exported, tmp_path, capsys):
  bindings = {"INIT": str(exported), "TRAIN_STEPS": 1, "run__Run__eval_before": False}
  assert start(tmp_path / "whole", **bindings) == 0
  shutil.copytree(tmp_path / "whole", tmp_path / "cut")
  saved = tmp_path / "cut" / "checkpoints" / "1"
  saved.rename(saved.with_name("1.partial"))
  shutil.rmtree(tmp_path / "cut" / "scores")
  assert start(tmp_path / "cut", **bindings) == 0
  assert records(tmp_path / "cut") == records(tmp_path / "whole")
  # And one that goes on says what of gin it does not take.
  capsys.readouterr()
  bindings |= {"TRAIN_STEPS": 2, "t5__T5Config__mlp_dim": 64}
  assert start(tmp_path / "whole", **bindings) == 0
  assert "mlp_dim = 32 (gin: 64)" in capsys.readouterr().out


def test_beams_decode_the_evaluation(finished, exported, tmp_path):
  workdir = tmp_path / "beams"
  bindings = {"INIT": str(exported), "TRAIN_STEPS": 1, "NUM_BEAMS": 3}
  assert start(workdir, **bindings) == 0
  saved = json.loads((workdir / "scores" / "test-0.json").read_text())
  assert saved["settings"]["beam"]["num_beams"] == 3
  name = "predictions/tiny_titles-test-{}.jsonl"
  lines = [json.loads(x) for x in (workdir / name.format(0)).open()]
  greedy = [json.loads(x) for x in (finished / name.format(6)).open()]
  assert [x["prediction"] for x in lines] != [x["prediction"] for x in greedy]
  assert losses(workdir, 0) == losses(finished, 6)

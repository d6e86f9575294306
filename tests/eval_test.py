"""Scoring saved checkpoints: the same numbers as in training, and no training."""

import json
import shutil

import pytest
import tiny_data
from tiny_project import contents, start


@pytest.fixture
def copy(finished, tmp_path):
  """A copy of the finished run without its scores and predictions."""
  workdir = tmp_path / "copy"
  shutil.copytree(finished, workdir)
  shutil.rmtree(workdir / "scores")
  shutil.rmtree(workdir / "predictions")
  return workdir


def final(workdir) -> dict[str, str]:
  names = ("scores/test-6.json", "predictions/tiny_titles-test-6.jsonl")
  return {name: (workdir / name).read_text() for name in names}


@pytest.mark.parametrize("command, more", [("train", ["--eval_only"]), ("eval", [])])
def test_final_scores_to_the_digit(finished, copy, capsys, command, more):
  untouched = contents(copy)
  capsys.readouterr()
  assert start(copy, command, more) == 0
  assert final(copy) == final(finished)
  after = contents(copy)
  assert {name: after[name] for name in untouched} == untouched
  shown = capsys.readouterr().out
  assert "Scores at step 6" in shown and "step 1/6" not in shown


def test_a_saved_configuration_scores_its_run(finished, copy):
  from t5tune import eval

  arguments = [f"--gin_file={copy}/config.gin", f"--workdir={copy}"]
  arguments += ["--data_dir=data", "--store_dir=stores"]
  assert eval.main(arguments) == 0
  assert final(copy) == final(finished)


def test_any_checkpoint(finished, copy, capsys):
  best = json.loads((copy / "checkpoints/6/meta.json").read_text())["best"]["step"]
  assert start(copy, "eval", ["--checkpoint=all"]) == 0
  scored = {int(p.stem.rpartition("-")[2]) for p in (copy / "scores").iterdir()}
  assert scored == {4, 6, best}
  shown = capsys.readouterr().out
  assert all(f"Scores at step {step}" in shown for step in scored)
  shutil.rmtree(copy / "scores")
  assert start(copy, "eval", ["--checkpoint=best"]) == 0
  assert [p.name for p in (copy / "scores").iterdir()] == [f"test-{best}.json"]


def test_a_smaller_part_of_the_test_rows(copy):
  assert start(copy, "eval", TEST_EXAMPLES=2) == 0
  tasks = json.loads((copy / "scores" / "test-6.json").read_text())["tasks"]
  assert [task["rows"] for task in tasks] == [2, 2]


def refused(capsys, workdir, *more, **bindings) -> str:
  before = contents(workdir) if workdir.exists() else None
  capsys.readouterr()
  assert start(workdir, "eval", more, **bindings) == 2
  assert (contents(workdir) if workdir.exists() else None) == before
  return capsys.readouterr().err


def test_what_cannot_be_scored(finished, copy, tmp_path, capsys):
  assert "holds no run" in refused(capsys, tmp_path / "nowhere")
  said = refused(capsys, copy, "--checkpoint=3")
  assert "--checkpoint=3" in said and "4, 6" in said
  said = refused(capsys, copy, t5__T5Config__mlp_dim=64)
  assert "model.mlp_dim: 32 there, 64 now" in said
  tiny_data.train_vocabulary(tmp_path / "v.model", max_sentencepiece_length=3)
  said = refused(capsys, copy, VOCABULARY=str(tmp_path / "v.model"))
  assert "VOCABULARY: " in said
  said = refused(capsys, copy, TEST_SPLIT="tset", EVAL_SPLIT="dev")
  assert "'tset'" in said
  shutil.rmtree(copy / "checkpoints")
  assert "no checkpoint yet" in refused(capsys, copy)

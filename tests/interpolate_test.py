"""`python -m t5tune.interpolate`: of two runs, and started again."""

import json

import pytest
from tiny_project import flags, start

import t5tune
from t5tune import interpolate
from t5tune.errors import UserError
from t5tune.evaluation import interpolation
from t5tune.reporting import records


def run(before, after, workdir, *more, **bindings) -> int:
  settings = {"INIT": "scratch", "BEST_METRIC": "loss", **bindings}
  ends = [str(before), str(after)]
  return interpolate.main([*ends, *flags(workdir, **settings), *more])


@pytest.fixture
def ends(finished):
  steps = sorted(int(p.name) for p in (finished / "checkpoints").iterdir())
  return [finished / "checkpoints" / str(step) for step in (steps[0], steps[-1])]


def test_the_best_of_the_alphas_becomes_a_work_directory(
  finished, ends, tmp_path, capsys
):
  workdir = tmp_path / "between"
  assert run(*ends, workdir, "--alphas=0,0.5,1") == 0
  kept = json.loads((workdir / interpolation.FILE).read_text())
  losses = {
    row["alpha"]: sum(t["loss"] for t in row["tasks"]) / len(row["tasks"])
    for row in kept["alphas"]
  }
  assert list(losses) == [0, 0.5, 1]
  best = min(losses, key=losses.get)
  assert f"at alpha = {best:g}" in capsys.readouterr().out
  # The ends are the checkpoints as training scored them.
  logged = [json.loads(line) for line in (finished / "metrics.jsonl").open()]
  wanted = {
    line["task"]: line["loss"]
    for line in logged
    if line.get("purpose") == "validation" and line["step"] == 6
  }
  assert {t["task"]: t["loss"] for t in kept["alphas"][-1]["tasks"]} == wanted
  # What was made is a run to report, to score again and to start from.
  (made,) = records.read([workdir])
  assert [e.step for e in made.evaluations] == [0, 6]
  assert made.trained == {"tiny_titles", "tiny_sums"}
  scored = (workdir / "scores/test-6.json").read_text()
  assert start(workdir, "eval") == 0
  assert json.loads((workdir / "scores/test-6.json").read_text())["tasks"] == [
    {**task, **{k: new[k] for k in ("constant", "constant_answer", "unigram_loss")}}
    for task, new in zip(
      json.loads(scored)["tasks"],
      json.loads((workdir / "scores/test-6.json").read_text())["tasks"],
      strict=True,
    )
  ]


def test_a_second_start_goes_on(ends, tmp_path, monkeypatch):
  workdir = tmp_path / "again"
  assert run(*ends, workdir, "--alphas=0,1") == 0
  scored = []
  evaluate = interpolation.evaluator.Evaluator.evaluate

  def counted(self, params, split, *rest, **named):
    scored.append(split)
    return evaluate(self, params, split, *rest, **named)

  monkeypatch.setattr(interpolation.evaluator.Evaluator, "evaluate", counted)
  assert run(*ends, workdir, "--alphas=0,0.5,1") == 0
  kept = json.loads((workdir / interpolation.FILE).read_text())
  assert [row["alpha"] for row in kept["alphas"]] == [0, 0.5, 1]
  # One alpha, and the best of all where it was not the best before.
  assert scored == ["validation", *["test"] * (kept["tested"] == 0.5)]
  scored.clear()
  assert run(*ends, workdir, "--alphas=0,0.5,1") == 0
  assert not scored
  worse = 0 if kept["tested"] else 1
  assert run(*ends, workdir, f"--alphas={worse}") == 0
  assert scored == ["test"]  # as one other is now the best
  recorded = json.loads((workdir / "run.json").read_text())
  assert (recorded["INPUT_LENGTH"], recorded["TARGET_LENGTH"]) == (32, 12)
  model = t5tune.load(workdir)
  assert (model.input_length, model.target_length) == (32, 12)


def test_mistakes_are_told(finished, ends, tmp_path):
  for alphas in ("0,2", "-1", "half", ""):
    with pytest.raises(UserError, match="--alphas="):
      run(*ends, tmp_path / "new", f"--alphas={alphas}")
  with pytest.raises(UserError, match="AFTER = 'scratch' has no weights"):
    run(ends[0], "scratch", tmp_path / "new")
  with pytest.raises(UserError, match="holds a training already"):
    run(*ends, finished)
  (tmp_path / "half" / "checkpoints" / "6").mkdir(parents=True)  # without run.json
  with pytest.raises(UserError, match="holds a training already"):
    run(*ends, tmp_path / "half")
  assert (tmp_path / "half" / "checkpoints" / "6").is_dir()
  with pytest.raises(UserError, match="BEST_METRIC names 'tiny_title/loss'"):
    run(*ends, tmp_path / "new", BEST_METRIC="tiny_title/loss")
  assert not (tmp_path / "new").exists()
  assert run(*ends, tmp_path / "begun", "--alphas=0") == 0
  with pytest.raises(UserError, match=r"was begun with after = .*name a new folder"):
    run(ends[0], ends[0], tmp_path / "begun")
  with pytest.raises(UserError, match=r"was begun with beam = "):
    run(*ends, tmp_path / "begun", NUM_BEAMS=2)


def test_a_metric_that_is_not_measured_costs_nothing(ends, tmp_path):
  with pytest.raises(UserError, match="'tiny_titles/likenes', which is not measured"):
    run(*ends, tmp_path / "new", BEST_METRIC="tiny_titles/likenes")
  assert not (tmp_path / "new").exists()


def test_one_of_several_processes_is_refused(ends, tmp_path, monkeypatch):
  for name, value in {"COORDINATOR_ADDRESS": "a:1", "NUM_PROCESSES": "2"}.items():
    monkeypatch.setenv(f"JAX_{name}", value)
  monkeypatch.setenv("JAX_PROCESS_ID", "0")
  with pytest.raises(UserError, match="interpolate runs in one process"):
    run(*ends, tmp_path / "new")

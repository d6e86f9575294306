"""`python -m t5tune.study`: a whole one, started again, and mistakes before anything."""

import json
import sys

import pytest
import tiny_project

from t5tune import study
from t5tune.errors import UserError

# Beside the tasks, which are registered once in a process.
STUDY = """
import seqio
import tiny_tasks

seqio.MixtureRegistry.add("tiny_mixture_before", ["tiny_sums"], default_rate=1.0)
seqio.MixtureRegistry.add("tiny_mixture_replay", [("tiny_titles", 3.0), "tiny_sums"],
                          default_rate=1.0)
"""


@pytest.fixture
def flags(project, workplace, tmp_path, monkeypatch):
  """Stands in a project whose tasks come with the mixtures of a study."""
  (tmp_path / "study_tasks.py").write_text(STUDY)
  for name in ("tiny.gin", "tiny.model", "data"):
    (tmp_path / name).symlink_to(project / name)
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{project}")
  given = tiny_project.flags(
    tmp_path / "made",
    TASK_MODULES=["study_tasks"],
    EVAL_STEPS=0,
  )
  return [*given, "--domain=tiny_titles", "--seeds=1", "--domain_steps=2"]


@pytest.mark.long
def test_a_whole_study(flags, tmp_path, capfd):
  assert study.main(flags) == 0
  made = tmp_path / "made"
  text = (made / "study.md").read_text()
  assert "| sequential |" in text and "| interpolated |" in text
  assert "</html>" in (made / "report.html").read_text()
  ways = {p.name for p in (made / "seed0").iterdir()}
  assert ways == {"before", "single", "sequential", "replay", "multitask", "lora"} | {
    "interpolated"
  }
  capfd.readouterr()
  assert study.main(flags) == 0  # nothing is left to do
  shown = capfd.readouterr().out
  assert "$ python" not in shown and text.splitlines()[0] in shown
  with pytest.raises(UserError, match="holds a study with other settings"):
    study.main([*flags, "--domain_steps=3"])


def test_a_command_that_fails_ends_the_study(flags, tmp_path, monkeypatch, capfd):
  monkeypatch.setattr(study, "_run", lambda line: 75)
  assert study.main(flags) == 75
  assert "[1/7] seed 0, before" in capfd.readouterr().out
  kept = json.loads((tmp_path / "made" / "study.json").read_text())
  assert len(kept) == 7 and kept[0][0] == "t5tune.train"


def test_signals_reach_the_command():
  code = "import os, signal; os.kill(os.getppid(), signal.SIGTERM); signal.pause()"
  assert study._run([sys.executable, "-c", code]) == 128 + 15
  assert study._run([sys.executable, "-c", "raise SystemExit(3)"]) == 3


@pytest.mark.parametrize(
  "wrong, told",
  [
    ("--domain=tiny_title", "'tiny_titles'"),
    ("--domain_steps=6", "--domain_steps=6"),
    (
      "--domain=tiny_sums",
      r"needs a mixture 'tiny_mixture_before' of tiny_titles; it has",
    ),
    ("--gin.MIXTURE='tiny_sums'", "--domain=tiny_titles is no task of MIXTURE"),
    ("--gin.SEED=4", "--gin.SEED: the study sets it"),
    ("--gin.EVAL_MIXTURE='tiny_sums'", "--gin.EVAL_MIXTURE"),
    ("--lora_gin_file=tiny.gin", "leaves LORA_RANK at 0"),
    ("--lora_gin_file=lore.gin", "lore.gin"),
  ],
)
def test_mistakes_are_told_before_anything_is_run(flags, tmp_path, wrong, told):
  with pytest.raises(UserError, match=told):
    study.main([*flags, wrong])
  assert not (tmp_path / "made").exists()

"""`python -m t5tune.study`: a whole one, started again, and mistakes before anything."""

import json
import signal
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
  (tmp_path / "short.gin").write_text("TARGET_LENGTH = 8\n")
  for name in ("tiny.gin", "tiny.model", "data"):
    (tmp_path / name).symlink_to(project / name)
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{project}")
  made = tmp_path / "made"
  given = tiny_project.flags(made, TASK_MODULES=["study_tasks"])
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
  with pytest.raises(UserError, match="holds a study that was begun with other"):
    study.main([*flags, "--domain_steps=3"])


def test_a_command_that_fails_ends_the_study(flags, tmp_path, monkeypatch, capfd):
  monkeypatch.setattr(study, "_run", lambda line: 75)
  assert study.main(flags) == 75
  assert "[1/7] seed 0, before" in capfd.readouterr().out
  kept = json.loads((tmp_path / "made" / "study.json").read_text())
  assert len(kept) == 7 and "TRAIN_STEPS = 4" in kept["seed0/before"]
  again = [flag for flag in flags if not flag.startswith("--store_dir")]
  assert study.main([*again, "--store_dir=elsewhere", "--seeds=2"]) == 75
  with pytest.raises(
    UserError, match=r"begun with other settings, of seed0.*BATCH_SIZE"
  ):
    study.main([*flags, "--gin.BATCH_SIZE=4"])


def test_signals_reach_the_command():
  code = "import os, signal; os.kill(os.getppid(), signal.SIG{}); signal.pause()"
  for name in ("TERM", "INT", "HUP"):
    ended = f"import signal; signal.signal(signal.SIG{name}, signal.SIG_DFL);"
    status = study._run([sys.executable, "-c", ended + code.format(name)])
    assert status == 128 + getattr(signal, f"SIG{name}")
  assert study._run([sys.executable, "-c", "raise SystemExit(3)"]) == 3


def test_a_signal_that_a_command_outlives_ends_the_study():
  code = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
  code += "os.kill(os.getppid(), signal.SIGTERM); time.sleep(0.5)"
  assert study._run([sys.executable, "-c", code]) == 75


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
    ("--gin.EARLY_STOPPING=1", "EARLY_STOPPING = 1: all ways"),
    ("--gin.EVAL_SPLIT='dev'", "EVAL_SPLIT = 'dev': task 'tiny_"),
    ("--gin.run.Run.best_metric='loss'", "BEST_METRIC"),
    ("--domain_gin_file=short.gin", r"seed0/sequential would be scored with lengths"),
    ("--lora_gin_file=tiny.gin", "LORA_RANK is 0"),
    ("--lora_gin_file=lore.gin", "lore.gin"),
  ],
)
def test_mistakes_are_told_before_anything_is_run(flags, tmp_path, wrong, told):
  with pytest.raises(UserError, match=told):
    study.main([*flags, wrong])
  assert not (tmp_path / "made").exists()

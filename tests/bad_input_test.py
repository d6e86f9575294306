"""Mistakes end in one message and exit status 2, and leave the work directory alone."""

import resource
import subprocess
import sys
import types

import pytest
import tiny_data
from tiny_project import contents, flags, prepare, records, start

from t5tune import command_line, train
from t5tune.data import build


@pytest.fixture
def run(capfd, monkeypatch):
  """Runs `train` as from the command line; returns its exit status and messages.

  What another process would build is built in this one, which saves its start.
  """

  def in_this_process(command, **_):
    return subprocess.CompletedProcess(command, build.main(command[3:]))

  here = types.SimpleNamespace(run=in_this_process)
  monkeypatch.setattr(build, "subprocess", here)

  def run(arguments) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
    capfd.readouterr()
    with pytest.raises(SystemExit) as caught:
      command_line.main(train.main)
    return caught.value.code or 0, capfd.readouterr().err

  return run


def assert_refused(outcome, words):
  status, said = outcome
  assert status == 2
  assert "Traceback" not in said
  messages = [line for line in said.splitlines() if line.startswith("error: ")]
  assert len(messages) == 1, said
  for word in words:
    assert word in said


SETTINGS = {
  "misspelt macro": (["--gin.TRAIN_STEP=5"], ["TRAIN_STEP", "'TRAIN_STEPS'"]),
  "text for a number": (["--gin.BATCH_SIZE=many"], ["BATCH_SIZE", "'many'"]),
  "fraction for a whole": (["--gin.TRAIN_STEPS=2.5"], ["TRAIN_STEPS", "2.5"]),
  "indivisible batch": (["--gin.BATCH_SIZE=12"], ["BATCH_SIZE = 12", "8 or 16"]),
  "no such recipe": (["--gin_file=dialogsun.gin"], ["dialogsun.gin", "dialogsum.gin"]),
  "no such vocabulary": (["--gin.VOCABULARY=none.model"], ["none.model"]),
  "vocabulary that is none": (["--gin.VOCABULARY=tiny.gin"], ["tiny.gin"]),
  "vocabulary not of T5's form": (
    ["--gin.VOCABULARY=bert.model"],
    ["pad, eos and unk"],
  ),
  "no vocabulary": (["--gin.VOCABULARY=None"], ["VOCABULARY is not set"]),
  "no such weights": (["--gin.INIT=google/flan-t5-tiny"], ["google/flan-t5-tiny"]),
  "no such axis": (["--gin.MESH={datum: -1}"], ["datum", "'data'"]),
  "half precision": (["--gin.DTYPE=float16"], ["overflow its range", "bfloat16"]),
  "no such precision": (["--gin.DTYPE=bf16"], ["not supported. Did", "'bfloat16'"]),
  "no factors to scale": (["--gin.LORA_ALPHA=32"], ["LORA_ALPHA = 32", "LORA_RANK"]),
  "factors too wide": (["--gin.LORA_RANK=9999"], ["LORA_RANK = 9999", "wide"]),
  "no such flag": (["--data-dir=x"], ["'--data_dir'"]),
  "no such optimiser": (
    ["--gin.optimizers.OptimizerConfig.name=adm"],
    ["'adm'", "adamw"],
  ),
}


@pytest.mark.parametrize("more, words", SETTINGS.values(), ids=SETTINGS)
def test_settings(workplace, tmp_path, run, more, words):
  tiny_data.train_vocabulary(workplace / "bert.model", pad_id=3)
  assert_refused(run([*flags(tmp_path / "run"), *more]), words)
  assert list(tmp_path.iterdir()) == []


def bad_line(text):
  def spoil(folder):
    with (folder / "notes" / "train.jsonl").open("a") as f:
      f.write(text + "\n")

  return spoil


def no_rows(folder):
  (folder / "sums" / "validation.jsonl").write_text("\n")


DATA = {
  "cut line": (bad_line('{"note": "a", '), {}, ["notes/train.jsonl:401", "not JSON"]),
  "missing field": (bad_line('{"note": "a"}'), {}, ["jsonl:401", "'title' is missing"]),
  "empty field": (
    bad_line('{"note": " ", "title": "t"}'),
    {},
    ["jsonl:401", "'note' is empty"],
  ),
  "no rows": (no_rows, {}, ["sums/validation.jsonl", "no rows"]),
  "no such mixture": (
    None,
    {"MIXTURE": "tiny_mixtur"},
    ["Did you mean 'tiny_mixture'"],
  ),
  "no such module": (None, {"TASK_MODULES": ["tiny_taks"]}, ["'tiny_tasks'"]),
  "no such split": (
    None,
    {"EVAL_SPLIT": "dev", "TEST_SPLIT": "dev"},
    ["'dev'", "validation"],
  ),
  "no such validation split": (None, {"EVAL_SPLIT": "validaton"}, ["'validaton'"]),
  "no such task to rank by": (
    None,
    {"BEST_METRIC": "titles/likeness"},
    ["BEST_METRIC names 'titles/likeness'", "'tiny_titles'"],
  ),
  "no such task to show": (None, {"run__Run__show_task": "titles"}, ["'titles'"]),
}


@pytest.mark.parametrize("spoil, bindings, words", DATA.values(), ids=DATA)
def test_data_and_names(workplace, tmp_path, run, spoil, bindings, words):
  arguments = flags(tmp_path / "run", **bindings)
  if spoil:
    from tiny_project import write_data

    spoil(write_data(tmp_path / "data"))
    arguments.append(f"--data_dir={tmp_path / 'data'}")
  assert_refused(run(arguments), words)
  assert not (tmp_path / "run").exists()


def test_no_such_metric_is_told_before_training(workplace, tmp_path, run):
  for more in ({}, {"EVAL_STEPS": 0}):  # a later start may evaluate
    outcome = run(flags(tmp_path / "run", BEST_METRIC="tiny_titles/likenes", **more))
    assert_refused(outcome, ["Did you mean 'tiny_titles/likeness'"])
    assert not (tmp_path / "run").exists()


def test_a_missing_data_directory(workplace, tmp_path, run):
  arguments = [*flags(tmp_path / "run"), "--data_dir=nowhere"]
  assert_refused(run(arguments), ["nowhere", "--data_dir"])
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", ["file", "file/run", "file/deep/run"])
def test_a_work_directory_that_cannot_be(workplace, tmp_path, run, place):
  (tmp_path / "file").write_text("kept")
  assert_refused(run(flags(tmp_path / place)), ["--workdir", "is a file"])
  assert (tmp_path / "file").read_text() == "kept"


CHANGED = {
  "batch": {"BATCH_SIZE": 16},
  "mixture": {"MIXTURE": "tiny_titles"},
  "input length": {"INPUT_LENGTH": 31},
  "target length": {"TARGET_LENGTH": 13},
  "seed": {"SEED": 1},
  "packing": {"PACK": False},
  "vocabulary": {"VOCABULARY": "other.model"},
  "learning rate": {"LEARNING_RATE": 0.02},
  "optimiser": {"optimizers__OptimizerConfig__name": "adamw"},
  "architecture": {"t5__T5Config__mlp_dim": 64},
}
OLD_AND_NEW = {
  "batch": "BATCH_SIZE: 8 there, 16 now",
  "mixture": "MIXTURE: 'tiny_mixture' there, 'tiny_titles' now",
  "input length": "INPUT_LENGTH: 32 there, 31 now",
  "target length": "TARGET_LENGTH: 12 there, 13 now",
  "seed": "SEED: 0 there, 1 now",
  "packing": "PACK: True there, False now",
  "vocabulary": "VOCABULARY: ",
  "learning rate": "optimizer.learning_rate: 0.01 there, 0.02 now",
  "optimiser": "optimizer.name: 'adafactor' there, 'adamw' now",
  "architecture": "model.mlp_dim: 32 there, 64 now",
}


@pytest.mark.parametrize("change", CHANGED)
def test_another_run_in_the_directory(finished, workplace, run, change):
  other = workplace / "other.model"
  if not other.exists():
    tiny_data.train_vocabulary(other, max_sentencepiece_length=4)
  before = contents(finished)
  assert_refused(run(flags(finished, **CHANGED[change])), [OLD_AND_NEW[change]])
  assert contents(finished) == before


def test_changed_rows_are_another_run(finished, workplace, tmp_path, run):
  from tiny_project import write_data

  folder = write_data(tmp_path / "data")
  assert run([*flags(finished), f"--data_dir={folder}"])[0] == 0  # the same rows
  before = contents(finished)
  bad_line('{"note": "One more.", "title": "More"}')(folder)
  outcome = run([*flags(finished), f"--data_dir={folder}"])
  assert_refused(outcome, ["training data (rows, templates, preprocessors, rates)"])
  assert contents(finished) == before


@pytest.fixture
def full_disk():
  """Lets no file grow beyond a number of bytes, as on a full disk."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)

  def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

  yield limit
  resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [1000, 40_000])
def test_a_disk_that_runs_full(finished, tmp_path, run, full_disk, size):
  workdir = tmp_path / "run"
  prepare()
  full_disk(size)
  assert_refused(run(flags(workdir)), ["File too large", "Free space there"])
  full_disk(resource.RLIM_INFINITY)
  assert start(workdir) == 0
  assert records(workdir) == records(finished)


def test_a_full_disk_for_stores(workplace, tmp_path, run, full_disk):
  full_disk(1000)
  outcome = run([*flags(tmp_path / "run"), f"--store_dir={tmp_path / 'stores'}"])
  full_disk(resource.RLIM_INFINITY)
  assert_refused(outcome, ["cannot write the token store", "--store_dir"])
  assert not (tmp_path / "run").exists()
  assert not [p for p in (tmp_path / "stores").rglob("*") if p.is_file()]

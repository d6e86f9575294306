"""Preparing ahead of time: the run that follows finds its tokens."""

import pathlib
import subprocess
import sys

import pytest
from tiny_project import flags, request
from tiny_project import prepare as tiny_prepare

from t5tune import prepare
from t5tune.data import build, index


def test_a_prepared_run_starts_no_process(workplace, capfd, monkeypatch):
  assert prepare.main(flags(TRAIN_STEPS=7)) == 0
  shown = capfd.readouterr().out
  assert "tiny_sums: 1 pass(es), splits validation\n" in shown
  assert "tiny_titles: 1 pass(es), splits validation, test\n" in shown
  assert "stores: stores/stores\n" in shown
  assert index.load(index.path("stores", request(TRAIN_STEPS=7))) is not None

  def none(*_, **__):
    raise AssertionError("a process was started")

  monkeypatch.setattr(build, "subprocess", type("", (), {"run": none}))
  assert prepare.main(flags(TRAIN_STEPS=7)) == 0
  assert capfd.readouterr().out.splitlines() == [
    line for line in shown.splitlines() if not line.startswith("preparing ")
  ]


@pytest.mark.parametrize("name", ["tokens.bin", "keys.npy", "manifest.json"])
@pytest.mark.parametrize("half_deleted", [False, True])
def test_a_damaged_store_is_named_and_built_anew(
  workplace, tmp_path, capfd, name, half_deleted
):
  stores = tmp_path / "stores"
  made = tiny_prepare(stores)
  store = pathlib.Path(made.tasks[1].passes[0])
  before = {file.name: file.read_bytes() for file in store.iterdir()}
  damaged = store / name
  if half_deleted:
    damaged.unlink()
  else:
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 4
    damaged.write_bytes(content)
  given = [f for f in flags() if not f.startswith("--store_dir")]
  assert prepare.main([*given, f"--store_dir={stores}"]) == 0
  shown = capfd.readouterr().out
  assert "damaged, built anew: " in shown and str(store) in shown
  assert {file.name: file.read_bytes() for file in store.iterdir()} == before


@pytest.mark.parametrize(
  "flag, words",
  [
    ("--gin.VOCABULARY=none.model", "none.model"),
    ("--gin.SEED=-1", "SEED = -1"),
    ("--workdir=x", "unknown flag --workdir"),
    ("--workers=0", "--workers=0: it must be at least 1"),
  ],
)
def test_mistakes(workplace, flag, words):
  command = [sys.executable, "-m", "t5tune.prepare", *flags(), flag]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 2
  assert done.stderr.startswith("error: ")
  assert words in done.stderr
  assert "Traceback" not in done.stderr


def test_what_is_only_scored_is_prepared_too(workplace, capfd):
  assert prepare.main(flags(MIXTURE="tiny_titles", EVAL_MIXTURE="tiny_mixture")) == 0
  shown = capfd.readouterr().out
  assert "tiny_titles: 1 pass(es), splits validation, test\n" in shown
  assert "tiny_sums: 0 pass(es), splits validation\n" in shown

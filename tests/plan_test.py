"""`plan` tells what a run needs on machines that are not there."""

import dataclasses
import os
import re
import subprocess
import sys

import pytest

from t5tune import errors, plan
from t5tune.planning import chips

SMALL = [
  *("--gin_file=demo.gin", "--gin.run.Run.packed_lengths=None"),
  *("--gin.t5.T5Config.num_encoder_layers=1", "--gin.t5.T5Config.num_decoder_layers=1"),
]


def test_a_run_that_fits(capsys):
  arguments = [*SMALL, "--topology=h100:8", "--gin.BATCH_SIZE=16"]
  assert plan.main([*arguments, "--gin.optimizers.OptimizerConfig.name='adamw'"]) == 0
  text = capsys.readouterr().out
  for words in (
    "Planned for h100:8, 8 device(s). An ESTIMATE",
    "Mesh: {'data': 8, 'fsdp': 1, 'tensor': 1}",
    "16 rows of 288 + 112 tokens; a device has 2 of them",  # twice what an example has
    "The data choose the lengths",
    "Fits.",
    "all-reduce",
    "3,350 GB/s",
    "450 GB/s one way",
  ):
    assert words in text, words
  params, optimiser = (
    float(re.search(rf"{name} +([\d.]+) MiB", text)[1])
    for name in ("parameters", "optimiser")
  )
  assert optimiser == pytest.approx(2 * params, rel=0.02)  # AdamW's two moments


def test_it_reads_nothing_and_imports_no_tensorflow(tmp_path):
  # In a process of its own, whose virtual devices it makes itself.
  code = (
    "import sys; from t5tune import plan;"
    f"status = plan.main({[*SMALL, '--topology=l4:4']!r});"
    "slow = {'tensorflow', 'seqio', 'orbax'} & set(sys.modules); assert not slow, slow;"
    "sys.exit(status)"
  )
  environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
  done = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    text=True,
    cwd=tmp_path,
    env=environment | {"PYTHONPATH": os.path.dirname(os.path.dirname(__file__))},
  )
  assert done.returncode == 0, done.stderr
  assert "Planned for l4:4, 4 device(s)" in done.stdout
  assert not list(tmp_path.iterdir())


def test_a_run_that_does_not_fit_is_given_settings_that_do(capsys, monkeypatch):
  small = dataclasses.replace(chips.CHIPS["cpu"], hbm=40 * 2**20)
  monkeypatch.setitem(chips.CHIPS, "cpu", small)
  arguments = [*SMALL, "--topology=cpu", "--gin.BATCH_SIZE=16"]
  assert plan.main(arguments) == 1
  text = capsys.readouterr().out
  assert "DOES NOT FIT" in text and "FITS" in text
  advised = re.search(r"\nWith (.*):\n", text)[1].replace("'", "").split()
  assert any("microbatches" in flag for flag in advised)
  # What it advises is what it says it is.
  assert plan.main([*arguments, "--no_ladder", *advised]) == 0


@pytest.mark.parametrize(
  "arguments, said",
  [
    (["--topology=v9"], "no chip 'v9'"),
    (["--topology=cpu:8", "--gin.BATCH_SIZE=12"], "BATCH_SIZE = 12 is not divisible"),
    (["--topology=cpu:8", "--gin.MESH={'fsdp': 3}"], "does not fit 8 device"),
    ([], "--topology"),
  ],
)
def test_mistakes_are_named(arguments, said):
  with pytest.raises(errors.UserError, match=re.escape(said)):
    plan.main([*SMALL, *arguments])

"""`bench` measures a recipe's work on this machine."""

import json
import os
import re
import subprocess
import sys

import pytest
from tiny_project import flags

from t5tune import bench, errors

SMALL = [
  *("--gin_file=demo.gin", "--gin.run.Run.packed_lengths=(64, 16)", "--rounds=1"),
  *("--gin.t5.T5Config.num_encoder_layers=1", "--gin.t5.T5Config.num_decoder_layers=1"),
  *(
    "--gin.BATCH_SIZE=8",
    "--gin.INPUT_LENGTH=64",
    "--gin.TARGET_LENGTH=8",
    "--gin.run.Run.eval_batch_size=8",
  ),
]


def by_kind(made: dict) -> dict[str, dict]:
  return {record["kind"]: record for record in made["measures"]}


def test_everything_that_needs_no_data(workplace, tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  names = ["train", "greedy", "beam", "save", "restore"]
  assert bench.main([*SMALL, f"--measure={','.join(names)}", "--json=made.json"]) == 0
  text = capsys.readouterr().out
  assert "8 rows of 64 + 16 tokens" in text
  assert os.listdir(tmp_path) == ["made.json"]  # no checkpoint stays
  made = json.loads((tmp_path / "made.json").read_text())
  found = by_kind(made)
  assert found.keys() == {*names, "matmul", "memory"}
  assert all(len(r["seconds"]) == 1 and r["median"] > 0 for r in found.values())
  train = found["train"]
  assert (train["input_tokens"], train["target_tokens"]) == (8 * 64, 8 * 16)
  assert train["target_tokens_per_second"] == pytest.approx(8 * 16 / train["median"])
  assert 0 < train["mfu"] < 1
  # XLA counts the body of a scan once; here there is one layer, so the two agree, but
  # for what is no product of matrices.
  devices = made["devices"]
  assert train["flops"] < devices * train["xla_flops"] < 1.5 * train["flops"]
  assert found["greedy"]["target_tokens"] == 8 * 8
  assert found["save"]["read_bytes"] == found["restore"]["read_bytes"]


def test_a_mixture_counts_no_padding(workplace, tmp_path):
  settings = flags(PACK=False, BATCH_SIZE=8, TARGET_LENGTH=16)
  measured = ["--data=mixture", "--measure=train,data", f"--json={tmp_path / 'made'}"]
  assert bench.main([*settings, *measured, "--rounds=1"]) == 0
  found = by_kind(json.loads((tmp_path / "made").read_text()))
  for kind, batches in (("train", 8), ("data", 200)):
    tokens = found[kind]["target_tokens"]
    assert batches * 8 < tokens < 0.9 * batches * 8 * 16


def test_a_second_start_finds_what_the_first_compiled(tmp_path):
  # In a process of its own, where nothing is compiled, with a cache of its own.
  left_out = ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")
  done = subprocess.run(
    [sys.executable, "-m", "t5tune.bench", *SMALL, "--measure=start"]
    + [f"--store_dir={tmp_path / 'store'}"],
    capture_output=True,
    text=True,
    env={k: v for k, v in os.environ.items() if k not in left_out},
  )
  assert done.returncode == 0, done.stderr
  first, second = re.findall(r"start to first step, \w+.*?│ +([\d.]+)", done.stdout)
  assert float(second) < float(first)


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["--measure=tran"], "names 'tran'. Did you mean 'train'?"),
    (["--measure=data"], "needs --data=mixture"),
    (["--rounds=0"], "--rounds=0: give a number from 1 on"),
    (["--rounds=two"], "--rounds=two: give a number"),
    (["--json=nowhere/made.json"], "there is no folder of that name"),
    (["--json=."], "--json=. is a folder: name a file"),
    (["--gin.BATCH_SIZE=7", "--measure=train"], "BATCH_SIZE"),
  ],
)
def test_mistakes(arguments, words):
  with pytest.raises(errors.UserError, match=re.escape(words)):
    bench.main([*SMALL, *arguments])


def test_it_imports_no_tensorflow(workplace):
  code = (
    "import sys; from t5tune import bench;"
    f"bench.main({[*SMALL, '--first_step']!r});"
    "slow = {'tensorflow', 'seqio', 'grain'} & set(sys.modules); assert not slow, slow"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr

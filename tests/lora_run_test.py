"""A run with LoRA: small checkpoints that come back exactly, with the same base only."""

import json
import shutil

import numpy as np
import pytest
import safetensors.numpy
from tiny_project import checkpoint, contents, records, start

from t5tune import config, convert, run
from t5tune.models import lora
from t5tune.weights import names, pretrained

LORA = {
  "LORA_RANK": 2,
  "LORA_ALPHA": 8,
  "LORA_TARGETS": ["query", "wo"],
  "lora__LoraConfig__dropout_rate": 0.1,
}


@pytest.fixture
def base(finished, tmp_path):
  """The finished run's last checkpoint, as a Hugging Face directory."""
  folder = tmp_path / "hf"
  assert convert.main([str(finished), str(folder), "--to", "hf"]) == 0
  return folder


def losses(workdir, step):
  saved = json.loads((workdir / "scores" / f"test-{step}.json").read_text())
  return [task["loss"] for task in saved["tasks"]]


def test_it_starts_at_its_base_goes_on_exactly_and_is_merged(finished, base, tmp_path):
  bindings = {"INIT": str(base), "VOCABULARY": None, "EMA_DECAY": 0.9, **LORA}
  whole, cut = tmp_path / "whole", tmp_path / "cut"
  assert start(whole, TRAIN_STEPS=4, **bindings) == 0
  assert losses(whole, 0) == losses(finished, 6)
  assert losses(whole, 4) != losses(whole, 0)

  # Factors alone are kept, and a run that was cut in two is the same run.
  meta = checkpoint(whole, 4)
  saved = {name for name in meta["checksums"] if name.startswith("params/")}
  assert len(saved) == 2 * (3 + 2)  # queries of three attentions, wo of two MLPs
  assert all(
    name.endswith(("query/lora_a", "query/lora_b", "wo/lora_a", "wo/lora_b"))
    for name in saved
  )
  assert start(cut, TRAIN_STEPS=2, **bindings) == 0
  assert start(cut, TRAIN_STEPS=4, **bindings) == 0
  train = lambda workdir: [x for x in records(workdir) if x["kind"] == "train"]  # noqa: E731
  assert train(cut) == train(whole)
  assert checkpoint(cut, 4)["checksums"] == meta["checksums"]

  before = contents(whole / "scores")
  assert start(whole, "eval", TRAIN_STEPS=4, **bindings) == 0
  assert contents(whole / "scores") == before

  # A conversion scores what the run did, and so does the adapter with its base.
  for to in ("hf", "peft"):
    made = tmp_path / f"made_{to}"
    assert convert.main([str(whole), str(made), "--to", to]) == 0
    again = {"INIT": str(made), "VOCABULARY": None, "TRAIN_STEPS": 1}
    assert start(tmp_path / f"from_{to}", **again) == 0
    found = losses(tmp_path / f"from_{to}", 0)
    np.testing.assert_allclose(found, losses(whole, 4), rtol=1e-6)


def test_no_other_base_no_other_factors(base, tmp_path, capsys):
  bindings = {
    "INIT": str(base),
    "TRAIN_STEPS": 1,
    "run__Run__eval_before": False,
    **LORA,
  }
  workdir = tmp_path / "run"
  assert start(workdir, **bindings) == 0
  kept = lambda: [contents(workdir / name) for name in ("checkpoints", "scores")]  # noqa: E731
  before = kept()

  def refused(command="train", **changes) -> str:
    capsys.readouterr()
    assert start(workdir, command, **{**bindings, "TRAIN_STEPS": 2, **changes}) == 2
    assert kept() == before
    return capsys.readouterr().err

  assert "model.lora" in refused(LORA_RANK=0, LORA_ALPHA=None)
  assert "model.lora" in refused(LORA_RANK=3)
  assert "model.lora.alpha: 8 there, 2 now" in refused(LORA_ALPHA=2)

  file = base / "model.safetensors"
  whole = file.read_bytes()
  held = safetensors.numpy.load(whole)
  name = "decoder.final_layer_norm.weight"
  held[name] = held[name] * np.float32(1.001)
  file.write_bytes(safetensors.numpy.save(held, {"format": "pt"}))
  for command in ("train", "eval"):
    said = refused(command)
    assert "parameter decoder/decoder_norm/scale has other values" in said
    assert f"INIT was '{base}'" in said
  base.rename(tmp_path / "moved")
  for command in ("train", "eval"):
    said = refused(command)
    assert f"INIT = '{base}': there is no such directory" in said
    assert "holds LoRA's factors alone" in said
  # The same weights elsewhere will do.
  (tmp_path / "moved" / "model.safetensors").write_bytes(whole)
  moved = {"INIT": str(tmp_path / "moved"), "TRAIN_STEPS": 2}
  assert start(workdir, **{**bindings, **moved}) == 0


def test_from_scratch_the_base_comes_from_the_seed(workplace, tmp_path):
  bindings = {**LORA, "INIT": "scratch", "run__Run__eval_before": False}
  whole, cut = tmp_path / "whole", tmp_path / "cut"
  assert start(whole, TRAIN_STEPS=2, **bindings) == 0
  assert start(cut, TRAIN_STEPS=1, **bindings) == 0
  assert start(cut, TRAIN_STEPS=2, **bindings) == 0
  assert checkpoint(cut, 2)["checksums"] == checkpoint(whole, 2)["checksums"]
  shutil.rmtree(cut)
  opened = pretrained.open_weights(str(whole))
  assert all(np.isfinite(opened.tensor(n)).all() for n in names.shapes(opened.config))


def test_the_settings_go_on_top_of_any_recipe():
  made = config.load(["samsum.gin", "runs/lora.gin"]).build(run.Run)
  assert made.model.lora == lora.LoraConfig(16, 32, 0.05, ("query", "value"))
  assert made.optimizer.name == "adamw"
  assert config.load(["samsum.gin"]).build(run.Run).model.lora is None

"""Adapters of PEFT: what is written has its names and comes back the same."""

import json

import lora_runs
import numpy as np
import pytest
import safetensors.numpy
from tiny_weights import FLAN, assert_equal, read_all, tensors, write_hf

from t5tune import convert
from t5tune.errors import UserError
from t5tune.weights import names, pretrained


@pytest.fixture(scope="module")
def made(tmp_path_factory, vocabulary, compiled_quickly):
  """A run with LoRA and its adapter, whose base has the vocabulary beside it."""
  folder = tmp_path_factory.mktemp("peft")
  write_hf(folder / "hf", tensors(FLAN))
  factors = lora_runs.write(folder / "run", str(folder / "hf"), 0, vocabulary)
  flags = [str(folder / "run"), str(folder / "adapter"), "--to", "peft"]
  assert convert.main(flags) == 0
  return folder, factors


@pytest.fixture
def adapter(made, tmp_path):
  """A copy of the adapter, and a function that writes it anew with changes."""
  folder = made[0] / "adapter"
  held = safetensors.numpy.load_file(folder / "adapter_model.safetensors")
  values = json.loads((folder / "adapter_config.json").read_text())

  def write(add=None, drop=(), **changes):
    changed = {k: v for k, v in held.items() if not any(d in k for d in drop)}
    safetensors.numpy.save_file(
      {**changed, **(add or {})}, tmp_path / "adapter_model.safetensors"
    )
    (tmp_path / "adapter_config.json").write_text(json.dumps({**values, **changes}))
    return str(tmp_path)

  return write


def test_it_has_peft_s_names_and_orientation(made):
  folder, factors = made
  out = folder / "adapter"
  held = safetensors.numpy.load_file(out / "adapter_model.safetensors")
  prefix = "base_model.model."
  assert len(held) == 2 * (2 * 3 + 3 * 5)
  a = held[f"{prefix}decoder.block.2.layer.1.EncDecAttention.o.lora_A.weight"]
  stack = "decoder/layers/encoder_decoder_attention/out"
  np.testing.assert_array_equal(a, factors[f"{stack}/lora_a"][2].T)
  b = held[f"{prefix}encoder.block.1.layer.1.DenseReluDense.wi_1.lora_B.weight"]
  np.testing.assert_array_equal(b, factors["encoder/layers/mlp/wi_1/lora_b"][1].T)
  values = json.loads((out / "adapter_config.json").read_text())
  wanted = {"r": 3, "lora_alpha": 6.0, "target_modules": ["o", "v", "wi_1"]}
  wanted |= {"base_model_name_or_path": str(folder / "hf"), "peft_type": "LORA"}
  assert {k: values[k] for k in wanted} == wanted
  assert (out / "spiece.model").is_file()
  assert "PeftModel.from_pretrained" in (out / "README.md").read_text()


def test_it_comes_back_merged_with_its_base(made):
  folder, _ = made
  run, back = (pretrained.open_weights(str(folder / d)) for d in ("run", "adapter"))
  assert back.config == FLAN
  assert_equal(read_all(back), read_all(run))
  assert pretrained.vocabulary_path(back.origin) == folder / "adapter" / "spiece.model"


def test_bfloat16_and_another_base(made, tmp_path):
  folder, factors = made
  (folder / "hf").rename(tmp_path / "moved")
  try:
    more = ["--to", "peft", "--dtype", "bfloat16", "--base", str(tmp_path / "moved")]
    convert.main([str(folder / "run"), str(tmp_path / "out"), *more])
    held = safetensors.safe_open(tmp_path / "out/adapter_model.safetensors", "np")
    assert {held.get_slice(k).get_dtype() for k in held.keys()} == {"BF16"}
    opened = pretrained.open_weights(str(tmp_path / "out"))
    wanted = lora_runs.merged(tensors(FLAN), factors)
    for name, value in read_all(opened).items():
      np.testing.assert_allclose(value, wanted[name], atol=0.02, err_msg=name)
  finally:
    (tmp_path / "moved").rename(folder / "hf")


def test_scales_and_layers_of_other_adapters(made, adapter):
  _, factors = made
  path = adapter(
    drop=("encoder.block.0", "decoder"), use_rslora=True, target_modules=".*"
  )
  found = read_all(pretrained.open_weights(path))
  base = tensors(FLAN)
  wanted = lora_runs.merged(base, factors)
  for name, value in found.items():
    change = (wanted[name] - base[name]) * 3**0.5 if "encoder/layers_1" in name else 0
    np.testing.assert_allclose(value, base[name] + change, atol=1e-6, err_msg=name)


HEAD = {"base_model.model.lm_head.lora_A.weight": np.zeros((3, 16), "f4")}
THIN = "base_model.model.encoder.block.0.layer.0.SelfAttention.v.lora_A.weight"


@pytest.mark.parametrize(
  "changes, words",
  [
    ({"use_dora": True}, "use_dora is True, which is more than plain LoRA. Merge it"),
    ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
    ({"modules_to_save": ["lm_head"]}, "modules_to_save is"),
    ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
    ({"r": 0}, "r 0"),
    ({"r": None}, "not a LoRA adapter's configuration: TypeError"),
    ({"base_model_name_or_path": None}, "base_model_name_or_path is empty"),
    ({"base_model_name_or_path": "/no/such"}, "no such directory(.|\n)*factors alone"),
    ({"base_model_name_or_path": "scratch"}, "no weights: 'scratch'"),
    ({"add": HEAD}, "lm_head.lora_A.weight is no factor of a kernel"),
    ({"add": {THIN: np.zeros((2, 16), "f4")}}, r"has shape \(2, 16\), where"),
  ],
)
def test_what_is_no_plain_adapter(adapter, changes, words):
  with pytest.raises(UserError, match=words):
    read_all(pretrained.open_weights(adapter(**changes)))


def test_only_runs_with_lora_become_adapters(made, tmp_path):
  folder, _ = made
  out = [str(tmp_path / "out"), "--to", "peft"]
  with pytest.raises(UserError, match="takes the work directory of a run with LoRA"):
    convert.main([str(folder / "hf"), *out])
  convert.main([str(folder / "hf"), str(tmp_path / "own"), "--to", "t5tune"])
  with pytest.raises(UserError, match="was trained without LoRA"):
    convert.main([str(tmp_path / "own"), *out])
  assert not (tmp_path / "out").exists()


def test_the_vocabulary_of_the_base_serves(adapter, vocabulary, made):
  path = adapter()
  with pytest.raises(UserError, match="no spiece.model beside"):
    pretrained.vocabulary_path(path)
  spiece = made[0] / "hf" / "spiece.model"
  spiece.write_bytes(vocabulary.read_bytes())
  assert pretrained.vocabulary_path(path) == spiece
  spiece.unlink()


def test_the_name_table_covers_every_kernel():
  theirs = {names.hugging_face(n)[0] for n in names.shapes(FLAN) if "/kernel" in n}
  assert len(theirs) == sum("/kernel" in n for n in names.shapes(FLAN))

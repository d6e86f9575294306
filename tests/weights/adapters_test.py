"""Runs with LoRA: their factors come back with the base they were trained on."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import lora_runs
import numpy as np
import pytest
import tiny_weights
from lora_runs import CONFIG, MESH, MODEL
from tiny_weights import FLAN, read_all, tensors, write_hf

from t5tune import convert, partitioning
from t5tune.errors import UserError
from t5tune.models import lora
from t5tune.training import parameter_groups, train_state
from t5tune.weights import adapters, names, pretrained


@pytest.fixture(scope="module")
def made(tmp_path_factory, vocabulary, compiled_quickly):
  """A run with LoRA on a Hugging Face directory; tests only read it."""
  folder = tmp_path_factory.mktemp("lora")
  write_hf(folder / "hf", tensors(FLAN))
  return folder, lora_runs.write(folder / "run", str(folder / "hf"), 0, vocabulary)


def assert_merged(found, factors, base=None) -> None:
  wanted = lora_runs.merged(base or tensors(FLAN), factors)
  assert found.keys() == wanted.keys()
  for name, value in wanted.items():
    np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-6, err_msg=name)
    if not name.endswith(("value/kernel", "out/kernel", "wi_1/kernel")):
      np.testing.assert_array_equal(found[name], value)


def test_a_run_is_opened_with_its_factors_merged(made):
  folder, factors = made
  assert len(factors) == 2 * (3 + 5)
  for path in (folder / "run", folder / "run" / "checkpoints" / str(lora_runs.STEP)):
    opened = pretrained.open_weights(str(path))
    assert (opened.config, opened.step) == (FLAN, lora_runs.STEP)
    assert opened.vocabulary == folder / "run" / "spiece.model"
    assert_merged(read_all(opened), factors)


def test_merged_logits_are_those_of_the_factors(made):
  folder, factors = made
  opened = pretrained.open_weights(str(folder / "run"))
  plain = train_state.Model(FLAN)
  whole = pretrained.params(opened, plain, MESH)
  base = pretrained.params(pretrained.open_weights(str(folder / "hf")), MODEL, MESH)
  apart = {**parameter_groups.flatten(base), **factors}
  apart = parameter_groups.merge(apart, {})
  rng = np.random.default_rng(0)
  inputs, targets = (rng.integers(2, 264, (3, n), np.int32) for n in (9, 6))
  inputs = (inputs, targets, np.ones_like(inputs), np.ones_like(targets))
  found = jax.jit(lambda p: plain.merge(p)(*inputs))(whole)
  wanted = jax.jit(lambda p: MODEL.merge(p)(*inputs))(apart)
  assert np.linalg.norm(found - wanted) < 1e-6 * np.linalg.norm(wanted)


@pytest.mark.parametrize("to", ["hf", "t5x", "t5tune"])
def test_conversions_write_merged_weights(made, tmp_path, to):
  folder, factors = made
  assert convert.main([str(folder / "run"), str(tmp_path / "out"), "--to", to]) == 0
  opened = pretrained.open_weights(str(tmp_path / "out"))
  assert opened.config.lora is None
  assert_merged(read_all(opened), factors)


def test_a_run_may_start_from_another_ones_merged_weights(made, tmp_path):
  folder, factors = made
  first = read_all(pretrained.open_weights(str(folder / "run")))
  opened = pretrained.open_weights(str(folder / "run"))
  given = dataclasses.replace(FLAN, lora=lora.LoraConfig(rank=1, targets=("query",)))
  assert pretrained.architecture(opened, given) == (given, [])
  more = lora_runs.write(tmp_path / "more", str(folder / "run"), seed=1)
  assert_merged(read_all(pretrained.open_weights(str(tmp_path / "more"))), more, first)


def test_a_base_from_the_seed(tmp_path, compiled_quickly):
  factors = lora_runs.write(tmp_path / "run", "scratch", seed=5)
  base = jax.jit(train_state.Model(FLAN).init)(jax.random.key(5))
  base = parameter_groups.flatten(base)
  drawn = {}
  for name in names.shapes(FLAN):
    stack, row = names.stacked(name)
    drawn[name] = np.asarray(base[stack] if row is None else base[stack][row])
  opened = pretrained.open_weights(str(tmp_path / "run"))
  wanted = lora_runs.merged(drawn, factors)
  for name, value in read_all(opened).items():
    np.testing.assert_allclose(value, wanted[name], rtol=0, atol=1e-5, err_msg=name)


def test_a_base_that_is_gone_or_elsewhere(made, tmp_path):
  folder, factors = made
  shutil.copytree(folder / "hf", tmp_path / "hf")
  run = tmp_path / "run"
  lora_runs.write(run, str(tmp_path / "hf"))
  (tmp_path / "hf").rename(tmp_path / "moved")
  words = "hf': there is no such directory(.|\n)*holds LoRA's factors alone"
  with pytest.raises(UserError, match=words):
    pretrained.open_weights(str(run))
  with pytest.raises(UserError, match=words):
    pretrained.begin(str(tmp_path / "hf"), CONFIG, run)
  base = ["--base", str(tmp_path / "moved")]
  assert convert.main([str(run), str(tmp_path / "out"), "--to", "t5tune", *base]) == 0
  assert_merged(read_all(pretrained.open_weights(str(tmp_path / "out"))), factors)
  with pytest.raises(UserError, match="--base=.* goes with a run with LoRA"):
    convert.main([str(tmp_path / "moved"), str(tmp_path / "x"), "--to", "hf", *base])


def test_a_base_that_has_changed(made, tmp_path):
  folder, _ = made
  changed = tensors(FLAN)
  changed["decoder/layers_2/mlp/wo/kernel"][3, 2] += 1e-3
  write_hf(tmp_path / "hf", changed)
  opened = pretrained.open_weights(str(folder / "run"), base=str(tmp_path / "hf"))
  words = (
    "was trained on has changed|trained on has changed: parameter decoder/layers/mlp/wo"
  )
  with pytest.raises(UserError, match=words):
    read_all(opened)
  source = pretrained.open_base(str(tmp_path / "hf"), CONFIG, folder / "run")
  base = pretrained.base_params(source, MODEL, MESH, 0)
  now = adapters.describe_base(str(tmp_path / "hf"), 0, base)
  recorded = recorded_base(folder / "run")
  with pytest.raises(UserError, match="decoder/layers/mlp/wo/kernel has other values"):
    adapters.check_base("the run", recorded, now)
  adapters.check_base("the run", recorded, {**recorded, "init": "elsewhere"})
  narrow = {k: v for k, v in changed.items() if "layers_2" not in k}
  write_hf(tmp_path / "narrow", narrow, num_decoder_layers=2)
  with pytest.raises(UserError, match="has parameters of other shapes"):
    pretrained.open_weights(str(folder / "run"), base=str(tmp_path / "narrow"))
  with pytest.raises(UserError, match="has parameters of other shapes"):
    pretrained.begin(str(tmp_path / "narrow"), CONFIG, folder / "run")


def recorded_base(run) -> dict:
  meta = run / "checkpoints" / str(lora_runs.STEP) / "meta.json"
  return json.loads(meta.read_text())["base"]


def test_a_run_goes_on_and_starts(made, tmp_path):
  folder, factors = made
  init = str(folder / "hf")
  gin = dataclasses.replace(CONFIG, vocab_size=None, mlp_dim=64)
  source, made_config, told = pretrained.begin(init, gin, folder / "run")
  assert (source.origin, made_config) == (init, CONFIG)
  assert told == ["mlp_dim = 24 (gin: 64)"]
  mesh = partitioning.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
  base = pretrained.base_params(source, MODEL, mesh, 0)
  found = adapters.describe_base(init, 0, base)
  assert found == recorded_base(folder / "run")  # on another mesh
  params = pretrained.with_fresh_factors(base, MODEL, mesh, 0)
  places = MODEL.abstract_params(mesh)
  assert jax.tree.structure(params) == jax.tree.structure(places)
  for x, place in zip(jax.tree.leaves(params), jax.tree.leaves(places), strict=True):
    assert (x.shape, x.dtype, x.sharding) == (place.shape, place.dtype, place.sharding)
  flat = parameter_groups.flatten(params)
  assert all(not x.any() for name, x in flat.items() if name.endswith("lora_b"))
  assert all(jnp.all(x != 0) for name, x in flat.items() if name.endswith("lora_a"))


def test_damage_is_noticed(made, tmp_path):
  folder, _ = made
  shutil.copytree(folder / "run", tmp_path / "run")
  values = json.loads((tmp_path / "run" / "run.json").read_text())
  values["model"]["lora"]["rang"] = 1
  (tmp_path / "run" / "run.json").write_text(json.dumps(values))
  with pytest.raises(UserError, match="run.json is damaged: model: .*rang"):
    pretrained.open_weights(str(tmp_path / "run"))


def test_tensors_are_those_of_the_formats(made):
  # What is not a target comes as the base has it, bit by bit.
  folder, _ = made
  opened = pretrained.open_weights(str(folder / "run"))
  name = names.EMBEDDING
  tiny_weights.assert_equal({name: opened.tensor(name)}, {name: tensors(FLAN)[name]})

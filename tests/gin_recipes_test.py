"""Every recipe that ships parses, builds and can be rerun from its saved form."""

import pathlib
import re

import jax
import pytest

from t5tune import config, run
from t5tune.data import vocabularies
from t5tune.models import t5
from t5tune.training import optimizers, train_state

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "gin"
RECIPES = sorted(path.name for path in FOLDER.glob("*.gin"))
MODELS = sorted(f"models/{path.name}" for path in FOLDER.glob("models/*.gin"))
# What only the user can tell.
_FILE = {"TRAIN_FILE": "a.jsonl", "INPUTS": "Sum up: {chat}", "TARGETS": "{sum}"}
GIVEN = {"jsonl.gin": _FILE}
# As published with the weights.
NUM_PARAMS = {
  "models/flan_t5_small.gin": 76_961_152,
  "models/flan_t5_base.gin": 247_577_856,
  "models/flan_t5_large.gin": 783_150_080,
  "models/flan_t5_xl.gin": 2_849_757_184,
  "models/flan_t5_xxl.gin": 11_135_332_352,
}


def build(files, **overrides) -> run.Run:
  pairs = [(name, str(value)) for name, value in overrides.items()]
  return config.load(files, pairs).build(run.Run)


def num_params(made: run.Run, vocabulary_size: int = 32_100) -> int:
  padded = t5.pad_vocab_size(made.model, vocabulary_size)
  return train_state.Model(padded).num_params()


def test_the_recipes_are_found():
  named = {"demo.gin", "dialogsum.gin", "multitask.gin", "samsum.gin", *GIVEN}
  assert named <= set(RECIPES)
  assert set(NUM_PARAMS) < set(MODELS)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_builds_and_its_saved_form_rebuilds_it(recipe, tmp_path):
  configuration = config.load([recipe], list(GIVEN.get(recipe, {}).items()))
  made = configuration.build(run.Run)
  assert isinstance(made.model, t5.T5Config)
  padded = t5.pad_vocab_size(made.model, 32_100)
  specs = train_state.Model(padded).param_specs()
  optimizers.make_optimizer(made.optimizer, specs, made.train_steps or 1000, 100)
  saved = tmp_path / "config.gin"
  saved.write_text(configuration.text)
  again = config.load([str(saved)])
  assert again.build(run.Run) == made
  # And so on: the text of the second says the same as that of the first.
  bare = lambda text: re.sub(r"  # .*", "", text)  # noqa: E731
  assert bare(again.text) == bare(configuration.text)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_how_it_is_run_and_what_it_reaches(recipe):
  header = (FOLDER / recipe).read_text().split("\n\n")[0:3]
  comments = "\n".join(
    line for line in "\n".join(header).splitlines() if line[:1] == "#"
  )
  assert f"--gin_file={recipe}" in comments
  assert re.search(r"[Ss]core", comments)


@pytest.mark.parametrize("recipe", ["dialogsum.gin", "multitask.gin", "samsum.gin"])
@pytest.mark.parametrize("model", MODELS)
def test_a_recipe_takes_any_model(recipe, model):
  made = build([recipe, model])
  alone = build(
    ["runs/finetune.gin", model], MIXTURE="m", INIT="i", BATCH_SIZE=1, TRAIN_STEPS=1
  )
  assert made.model == alone.model
  assert made.mixture == build([recipe]).mixture


@pytest.mark.parametrize("model", NUM_PARAMS)
def test_models_have_the_published_size(model):
  made = build(["samsum.gin", model])
  assert num_params(made) == NUM_PARAMS[model]


def test_the_mini_model_has_about_ten_million_parameters():
  files = ["multitask.gin", "models/t5_mini.gin"]
  made = build(files, INIT="scratch", TRAIN_STEPS=300)
  assert (made.init, made.train_steps, made.vocabulary) == (
    "scratch",
    300,
    "mini.model",
  )
  assert made.model.dtype == "float32"
  size = vocabularies.Tokenizer(made.vocabulary_path()).size
  assert 9e6 < num_params(made, size) < 12e6


def test_the_demo_needs_nothing_from_elsewhere():
  made = build(["demo.gin"])
  assert made.init == "scratch"
  assert made.vocabulary_path().is_file()
  size = vocabularies.Tokenizer(made.vocabulary_path()).size
  assert num_params(made, size) < 5e6


def test_nothing_is_allocated_to_count_parameters():
  before = sum(x.nbytes for x in jax.live_arrays())
  assert num_params(build(["samsum.gin", "models/flan_t5_xxl.gin"])) > 1e10
  assert sum(x.nbytes for x in jax.live_arrays()) < before + 1e6

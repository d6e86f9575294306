"""Tests of t5tune.config: what holds, what is refused, what is saved."""

import pathlib
import re

import pytest

from t5tune import config
from t5tune.errors import UserError
from tests import toy_config

HEADER = "from __gin__ import dynamic_registration\nfrom tests import toy_config\n"
RUN = (
  HEADER
  + """
MIXTURE = %gin.REQUIRED
TRAIN_STEPS = 1000
LEARNING_RATE = 1e-3
MESH = {'data': -1}
TASK_MODULES = []
PACKING = True
INIT = None

toy_config.Run:
  mixture = %MIXTURE
  train_steps = %TRAIN_STEPS
  learning_rate = %LEARNING_RATE
  model = @toy_config.Model()
  mesh = %MESH
  task_modules = %TASK_MODULES
  packing = %PACKING
  init = %INIT
"""
)
MODEL = HEADER + "toy_config.Model.emb_dim = 8\n"
RECIPE = "MIXTURE = 'dialogsum'\nTRAIN_STEPS = 2000\ninclude 'runs/finetune.gin'\ninclude 'model.gin'\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> pathlib.Path:
  """A working directory with a recipe, the run it includes and a model."""
  (tmp_path / "runs").mkdir()
  (tmp_path / "runs/finetune.gin").write_text(RUN)
  (tmp_path / "model.gin").write_text(MODEL)
  (tmp_path / "recipe.gin").write_text(RECIPE)
  monkeypatch.chdir(tmp_path)
  return tmp_path


def build(*overrides: tuple[str, str], text: str = "") -> toy_config.Run:
  """Builds the recipe with `text` as a later file."""
  pathlib.Path("mine.gin").write_text(text)
  files = ["recipe.gin", "mine.gin"] if text else ["recipe.gin"]
  return config.load(files, overrides).build(toy_config.Run)


def refusal(*overrides: tuple[str, str], text: str = "") -> str:
  with pytest.raises(UserError) as caught:
    build(*overrides, text=text)
  return str(caught.value)


def test_include_is_weaker_than_includer_and_flags_are_strongest():
  # The recipe includes the run *after* its own bindings: they hold all the same.
  assert build().train_steps == 2000
  assert build(text="TRAIN_STEPS = 5\n").train_steps == 5
  assert build(("TRAIN_STEPS", "7"), text="TRAIN_STEPS = 5\n").train_steps == 7


def test_a_run_included_again_by_a_later_file_does_not_undo_the_recipe():
  assert (
    build(text="include 'runs/finetune.gin'\nPACKING = False\n").train_steps == 2000
  )


def test_a_file_named_last_wins_although_an_earlier_one_included_it():
  loaded = config.load(["recipe.gin", "runs/finetune.gin"], [("MIXTURE", "x")])
  assert loaded.macros["TRAIN_STEPS"] == 1000


def test_overrides_are_listed_with_their_origins():
  loaded = config.load(["recipe.gin"], [("TRAIN_STEPS", "300")])
  assert loaded.overrides == [
    "TRAIN_STEPS: 300 (--gin.TRAIN_STEPS) over 2000 (recipe.gin:2) "
    "over 1000 (runs/finetune.gin:5)"
  ]


def test_complete_text_reruns_the_job():
  overrides = [
    ("TASK_MODULES", "[a, b]"),
    ("toy_config.Run.schedule", "@toy_config.constant"),
    ("toy_config.constant.value", "0.5"),
    ("toy_config.Run.teacher", "@teacher/toy_config.Model()"),
    ("teacher/toy_config.Model.emb_dim", "16"),
    ("INIT", 'it\'s "quoted"\\n'),
  ]
  first = config.load(["recipe.gin"], overrides)
  run = first.build(toy_config.Run)
  pathlib.Path("config.gin").write_text(first.text)
  again = config.load(["config.gin"])
  rerun = again.build(toy_config.Run)
  assert (run.teacher.emb_dim, run.model.emb_dim) == (16, 8)
  assert run.schedule(3) == rerun.schedule(3) == 0.5
  assert vars(run) | {"schedule": 0} == vars(rerun) | {"schedule": 0}
  assert again.macros == first.macros
  assert again.overrides == []
  bare = re.compile(r"  # .*$", re.MULTILINE)
  assert bare.sub("", again.text) == bare.sub("", first.text)


def test_complete_text_writes_defaults_too():
  text = config.load(["recipe.gin"]).text
  assert "toy_config.Run.seed = 0  # default" in text
  assert "toy_config.Model.dropout_rate = 0.1  # default" in text


def test_loads_do_not_touch_each_other():
  first = config.load(["recipe.gin"], [("TRAIN_STEPS", "1")])
  second = config.load(["recipe.gin"], [("TRAIN_STEPS", "2")])
  assert second.build(toy_config.Run).train_steps == 2
  assert first.build(toy_config.Run).train_steps == 1


@pytest.mark.parametrize(
  "name, raw, words",
  [
    ("TRAIN_STPES", "300", ["--gin.TRAIN_STPES=300:", "'TRAIN_STEPS'"]),
    ("train_steps", "300", ["--gin.train_steps=300:", "'TRAIN_STEPS'"]),
    ("seed", "3", ["'toy_config.Run.seed'"]),
    ("toy_config.Model.dropuot_rate", "0", ["no parameter", "'dropout_rate'"]),
    ("toy_config.Modell.dropout_rate", "0", ["'Model'"]),
    ("toyconfig.Model.dropout_rate", "0", ["'toy_config'"]),
    ("TRAIN_STEPS", "many", ["a string", "Run.train_steps", "finetune.gin:14", "int"]),
    ("PACKING", "true", ["Write True."]),
    ("INIT", "none", ["Write None."]),
    ("TASK_MODULES", "a,b", ["Write ['a', 'b']."]),
    ("MIXTURE", "%MIXTUER", ["%MIXTUER", "'MIXTURE'"]),
    ("toy_config.Run.model", "@toy_config.Model", ["Write @toy_config.Model()"]),
    ("toy_config.Run.model", "@toy_config.Unrelated()", ["a reference", "a Model"]),
    ("INIT", "%INIT", ["INIT -> INIT", "circle"]),
    ("TRAIN_STEPS", "-1", ["not be negative", "TRAIN_STEPS = -1 (--gin.TRAIN_STEPS)"]),
  ],
)
def test_flags_refused(name, raw, words):
  message = refusal((name, raw))
  for word in words:
    assert word in message
  assert f"--gin.{name}" in message


@pytest.mark.parametrize(
  "text, words",
  [
    ("\nTRAIN_STPES = 3\n", ["mine.gin:2: ", "'TRAIN_STEPS'"]),
    ("PACKING = True\nPACKING = True\n", ["mine.gin:2: ", "twice", "line 1"]),
    (HEADER + "toy_config.Run.sed = 3\n", ["mine.gin:3: ", "'seed'"]),
    (
      HEADER + "toy_config.Run.model = @toy_config.Modle()\n",
      ["mine.gin:3", "'Model'"],
    ),
    ("TRAIN_STEPS = '300'\n", ["mine.gin:1: ", "Write 300 without quotes."]),
    ("TRAIN_STEPS = 1.5\n", ["mine.gin:1: ", "1.5 is a float"]),
    ("PACKING = 1\n", ["mine.gin:1: ", "Write True."]),
    ("MIXTURE = %gin.REQUIRED\n", ["mine.gin:1: ", "MIXTURE must be set", "a string"]),
    ("INIT = dialogsum\n", ["mine.gin:1: ", "Write 'dialogsum'.", "INIT = dialogsum"]),
    ("\nINIT = 'dialogsum\n", ["mine.gin:2: ", "quote"]),
    ("MESH = {'data': 1,\nINIT = None\n", ["mine.gin:2: ", "bracket"]),
    ("include 'modle.gin'\n", ["mine.gin:1: ", "'model.gin'"]),
    ("include 'mine.gin'\n", ["mine.gin -> mine.gin", "circle"]),
    ("import toy_cnofig_absent\n", ["mine.gin:1: ", "no module 'toy_cnofig_absent'"]),
    ("from tests.toy_config import Run\n", ["mine.gin:1: ", "modules only"]),
    ("from tests import toy_confg\n", ["mine.gin:1: ", "'toy_config'"]),
    (
      HEADER + "toy_config.Unrelated.size = 3\n",
      ["mine.gin:3: ", "no effect", "@toy_config.Unrelated"],
    ),
    (
      HEADER + "toy_config.Run.teacher = @t/toy_config.Model()\n"
      "teacher/toy_config.Model.emb_dim = 2\n",
      ["mine.gin:4: ", "no effect"],
    ),
  ],
)
def test_files_refused(text, words):
  message = refusal(text=text)
  for word in words:
    assert word in message


def test_value_without_default_is_asked_for():
  pathlib.Path("small.gin").write_text("MIXTURE = 'x'\ninclude 'runs/finetune.gin'\n")
  with pytest.raises(
    UserError, match=r"runs/finetune.gin:\d+: .*Model.emb_dim .*an int"
  ):
    config.load(["small.gin"]).build(toy_config.Run)


def test_flag_on_a_macro_that_was_overridden_is_refused():
  text = HEADER + "toy_config.Run.train_steps = 4\n"
  assert build(text=text).train_steps == 4
  assert "no effect" in refusal(("TRAIN_STEPS", "3"), text=text)


def test_module_that_fails_to_import_shows_its_own_error(folder, monkeypatch):
  (folder / "faulty_task_module.py").write_text("\nundefined_name\n")
  monkeypatch.syspath_prepend(folder)
  message = refusal(text="import faulty_task_module\n")
  assert message.startswith("mine.gin:1: ")
  assert "name 'undefined_name' is not defined" in message
  assert "faulty_task_module.py:2" in message


def test_modules_with_one_last_name_keep_apart(folder, monkeypatch):
  (folder / "other").mkdir()
  (folder / "other/toy_config.py").write_text("class Extra:\n  pass\n")
  monkeypatch.syspath_prepend(folder)
  text = "import other.toy_config\n" + HEADER + "toy_config.Run.seed = 5\n"
  assert build(text=text).seed == 5

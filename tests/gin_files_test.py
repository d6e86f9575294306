"""Tests of t5tune.gin_files: what is found and how flag values are read."""

import pathlib

import pytest

from t5tune import gin_files
from t5tune.errors import UserError
from t5tune.gin_files import Macro, Reference


@pytest.mark.parametrize(
  "raw, value",
  [
    ("300", 300),
    ("1e-3", 1e-3),
    ("-2", -2),
    ("True", True),
    ("None", None),
    ("scratch", "scratch"),
    ("'scratch'", "scratch"),
    ("", ""),
    ("/a/b.model", "/a/b.model"),
    ("gs://bucket/x-1", "gs://bucket/x-1"),
    ("7b", "7b"),
    ("007", "007"),
    ("2024-05-01", "2024-05-01"),
    ("[my_tasks]", ["my_tasks"]),
    ("['my_tasks']", ["my_tasks"]),
    ("[a, 'b,c', 3,]", ["a", "b,c", 3]),
    ("[]", []),
    ("(a, 1)", ("a", 1)),
    ("{data: -1}", {"data": -1}),
    ("{summary}", "{summary}"),
    ("{question}, {answer}: {why}", "{question}, {answer}: {why}"),
    ('{{"answer": {why}}}', '{{"answer": {why}}}'),
    (r"Sum up:\n{dialogue}", r"Sum up:\n{dialogue}"),
    ("[{a},{b}]", ["{a}", "{b}"]),
    ("{'data': -1, fsdp: [x, y]}", {"data": -1, "fsdp": ["x", "y"]}),
    ("%STEPS", Macro("STEPS")),
    ("[%STEPS, bare]", [Macro("STEPS"), "bare"]),
    ("@t5.T5Config()", Reference("", "t5.T5Config", True)),
    ("@big/t5.T5Config", Reference("big", "t5.T5Config", False)),
  ],
)
def test_flag_values(raw, value):
  read = gin_files.from_flag("NAME", raw).value
  assert read == value
  assert type(read) is type(value)


@pytest.mark.parametrize("raw", ["%", "@a b()", "{a, b}"])
def test_flag_values_refused(raw):
  with pytest.raises(UserError, match="--gin.NAME="):
    gin_files.from_flag("NAME", raw)


def test_flag_names():
  statement = gin_files.from_flag("small/t5.T5Config.dropout_rate", "0")
  assert (statement.scope, statement.selector) == ("small", "t5.T5Config")
  assert statement.arg == "dropout_rate"
  with pytest.raises(UserError, match="not a name"):
    gin_files.from_flag("TRAIN-STEPS", "3")


@pytest.fixture
def folders(tmp_path, monkeypatch) -> tuple[pathlib.Path, pathlib.Path]:
  """The working directory and a folder of recipes beside it."""
  here, recipes = tmp_path / "here", tmp_path / "recipes"
  (recipes / "models").mkdir(parents=True)
  here.mkdir()
  monkeypatch.chdir(here)
  return here, recipes


def test_working_directory_comes_before_recipes(folders):
  here, recipes = folders
  (recipes / "demo_toy.gin").write_text("")
  found = gin_files.find_gin_file("demo_toy.gin", [recipes])
  assert found == recipes / "demo_toy.gin"
  (here / "demo_toy.gin").write_text("")
  found = gin_files.find_gin_file("demo_toy.gin", [recipes])
  assert found.resolve() == here / "demo_toy.gin"


def test_missing_file_names_the_nearest_recipe(folders):
  _, recipes = folders
  (recipes / "models" / "toy_small.gin").write_text("")
  with pytest.raises(UserError, match="Did you mean 'models/toy_small.gin'"):
    gin_files.find_gin_file("models/toy_smal.gin", [recipes])


def test_include_is_looked_up_beside_its_includer_first(folders):
  here, recipes = folders
  (recipes / "a.gin").write_text("include 'b.gin'\n")
  (recipes / "b.gin").write_text("X = 1\n")
  (here / "b.gin").write_text("X = 2\n")
  files = gin_files.in_order(["a.gin"], [recipes])
  assert [f.path for f in files] == [recipes / "b.gin", recipes / "a.gin"]


def test_file_that_two_include_is_weaker_than_both(folders):
  _, recipes = folders
  for name, text in {
    "base": "",
    "a": "include 'base.gin'\n",
    "b": "include 'base.gin'\n",
    "top": "include 'a.gin'\ninclude 'b.gin'\n",
  }.items():
    (recipes / f"{name}.gin").write_text(text)
  files = gin_files.in_order(["top.gin"], [recipes])
  assert [f.path.stem for f in files] == ["base", "a", "b", "top"]


def test_binary_file_is_refused(folders):
  here, _ = folders
  (here / "x.gin").write_bytes(b"\xff\xfe\x00")
  with pytest.raises(UserError, match="x.gin: cannot be read"):
    gin_files.in_order(["x.gin"])


def test_every_recipe_of_ours_parses():
  folder = gin_files.gin_folder()
  recipes = set(folder.rglob("*.gin")) - set(folder.glob("t5x/*"))  # these are T5X's
  for recipe in recipes:
    assert gin_files.in_order([str(recipe)])

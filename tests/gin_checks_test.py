"""Tests of t5tune.gin_checks: which values fit which annotations."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Optional

import pytest

from t5tune import gin_checks
from t5tune.gin_files import Macro, Origin
from tests import toy_config

FILE = Origin("x.gin:1")


def flag(text: str) -> Origin:
  return Origin(f"--gin.X={text}", text)


@pytest.mark.parametrize(
  "value, annotation, fitted",
  [
    (3, int, 3),
    (1e3, int, 1000),
    (3, float, 3),
    (None, int | None, None),
    (None, Optional[int], None),  # noqa: UP045
    (1e3, int | None, 1000),
    (0.5, int | float, 0.5),
    ("a", Literal["a", "b"], "a"),
    (["a"], Sequence[str], ["a"]),
    (("a",), list[str], ("a",)),
    ([1, 2], tuple[int, ...], [1, 2]),
    ([1, 2.0], tuple[int, int], [1, 2]),
    ({"a": 2.0}, dict[str, int], {"a": 2}),
    ({"a": 2}, Mapping[str, float], {"a": 2}),
    ({"a": [1]}, Any, {"a": [1]}),
    ([], Sequence[str] | None, []),
    ("x", str | Sequence[str], "x"),
    (True, bool, True),
    ([{"a": 1}], list, [{"a": 1}]),
  ],
)
def test_fits(value, annotation, fitted):
  result = gin_checks.Checker({}).fit(value, annotation, FILE)
  assert result == fitted
  assert type(result) is type(fitted)


@pytest.mark.parametrize(
  "value, annotation",
  [
    ("3", int),
    (1.5, int),
    (True, int),
    (True, float),
    (1, bool),
    (3, str),
    (None, int),
    ("a", Sequence[str]),
    ([1], Sequence[str]),
    ([1, 2, 3], tuple[int, int]),
    ({"a": 1.5}, dict[str, int]),
    ([], dict[str, int]),
    ("c", Literal["a", "b"]),
    (1, Literal[True]),
    ("f", Callable[[int], float]),
    (3, toy_config.Model),
    (float("inf"), int),
    ({}, list[int] | None),
  ],
)
def test_does_not_fit(value, annotation):
  with pytest.raises(gin_checks.Mismatch):
    gin_checks.Checker({}).fit(value, annotation, FILE)


@pytest.mark.parametrize(
  "value, text, annotation, fitted",
  [
    (2024, "2024", str, "2024"),
    (1e3, "1e3", str | None, "1e3"),
    (3, "3", str | int, 3),
    ("word", "word", Sequence[str], ["word"]),
    ("word", "word", list[str] | None, ["word"]),
    (3, "3", Literal["3"], "3"),
  ],
)
def test_bare_text_of_a_flag(value, text, annotation, fitted):
  assert gin_checks.Checker({}).fit(value, annotation, flag(text)) == fitted


def test_a_word_in_a_file_is_no_list():
  with pytest.raises(gin_checks.Mismatch) as caught:
    gin_checks.Checker({}).fit("word", Sequence[str], FILE)
  assert caught.value.hint == "Write ['word']."


def test_macro_is_fitted_where_it_is_defined():
  checker = gin_checks.Checker({"A": (Macro("B"), FILE), "B": (1e3, flag("1e3"))})
  assert checker.fit([Macro("A"), 2], list[int], FILE) == [Macro("A"), 2]
  assert checker.macros["B"][0] == 1000
  with pytest.raises(gin_checks.Mismatch) as caught:
    checker.fit(Macro("A"), bool, FILE)
  assert (caught.value.macro, caught.value.origin) == ("B", flag("1e3"))


def test_parameters_see_through_a_metaclass():
  class Meta(type):
    def __call__(cls, *args, **kwargs):
      return super().__call__(*args, **kwargs)

  class Layer(metaclass=Meta):
    def __init__(self, size: int, *, name: "str" = ""):
      pass

  found = gin_checks.parameters(Layer)
  assert {name: p.annotation for name, p in found.items()} == {"size": int, "name": str}


@pytest.mark.parametrize(
  "annotation, words",
  [
    (int | None, "an int or None"),
    (Sequence[str], "a list of strings"),
    (Sequence[int], "a list of ints"),
    (Sequence[float], "a list of numbers"),
    (tuple[int, ...], "a list of ints"),
    (tuple[int, str], "a list of 2: an int, a string"),
    (list[bool], "a list, each True or False"),
    (dict[str, int], "a dict from a string to an int"),
    (Literal["a", "b"], "one of 'a', 'b'"),
    (toy_config.Model, "a Model"),
    (Callable[[int], float], "a function (@name)"),
  ],
)
def test_in_words(annotation, words):
  assert gin_checks.in_words(annotation) == words

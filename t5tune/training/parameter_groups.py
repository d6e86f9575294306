"""Groups of parameters by name: which train, which decay, and at what rate.

A parameter's name is its path, 'encoder/layers/mlp/wi_0/kernel'; the layers of a stack
are one parameter. A pattern is a regular expression that matches the whole name.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flax import traverse_util

from t5tune import errors
from t5tune.models import lora


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
  """Returns name -> leaf for nested dictionaries."""
  return traverse_util.flatten_dict(tree, sep="/")


def select(tree: Mapping[str, Any], keep: Callable[[str], bool]) -> dict[str, Any]:
  """Returns the nested dictionaries without the leaves whose name is not kept."""
  kept = {name: leaf for name, leaf in flatten(tree).items() if keep(name)}
  return traverse_util.unflatten_dict(kept, sep="/")


def merge(tree: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
  """Returns `tree` with the leaves of `part` in place of its own or beside them."""
  return traverse_util.unflatten_dict({**flatten(tree), **flatten(part)}, sep="/")


def map_names(function: Callable[[str], Any], tree: Mapping[str, Any]) -> dict:
  """Returns the nested dictionaries with `function(name)` for every leaf."""
  found = {name: function(name) for name in flatten(tree)}
  return traverse_util.unflatten_dict(found, sep="/")


def is_lora_factor(name: str) -> bool:
  """Whether a parameter is one of LoRA's factors."""
  return name.rpartition("/")[2] in lora.FACTORS


def is_stacked(name: str) -> bool:
  """Whether a parameter has a leading axis of layers."""
  return "layers" in name.split("/")


def matching(patterns: Iterable[str], names: Iterable[str], setting: str) -> set[str]:
  """Returns the names that at least one pattern matches.

  Args:
    patterns: regular expressions.
    names: the names of all parameters.
    setting: the gin binding that holds the patterns, for messages.

  Raises:
    UserError: a pattern is no regular expression or matches no name.
  """
  names = list(names)
  return {n for pattern in patterns for n in _matches(pattern, names, setting)}


def learning_rate_factors(
  scales: Mapping[str, float], trainable: Sequence[str], setting: str
) -> dict[str, float]:
  """Returns name -> factor for the trained parameters that some pattern matches.

  Args:
    scales: pattern -> factor; the first pattern that matches a name counts.
    trainable: the names of the parameters that train.
    setting: the gin binding that holds the patterns, for messages.

  Raises:
    UserError: a pattern is no regular expression, matches no trained parameter, or only
      such as earlier patterns match.
  """
  factors: dict[str, float] = {}
  for pattern, factor in scales.items():
    matched = _matches(pattern, trainable, setting, "parameter that trains")
    new = {name: factor for name in matched if name not in factors}
    if not new:
      raise errors.UserError(
        f"{setting}: the pattern {pattern!r} has no effect, for earlier patterns match all"
        " that it does and the first one counts. Put it before them or remove it."
      )
    factors |= new
  return factors


def _matches(
  pattern: str, names: Sequence[str], setting: str, kind: str = "parameter"
) -> list[str]:
  try:
    compiled = re.compile(pattern)
  except re.error as e:
    raise errors.UserError(
      f"{setting}: {pattern!r} is not a regular expression: {e}."
    ) from None
  found = [name for name in names if compiled.fullmatch(name)]
  if found:
    return found
  inside = [name for name in names if compiled.search(name)]
  if inside:
    hint = (
      f"It must match a whole name; {'.*' + pattern + '.*'!r} would match {inside[0]!r}"
      f" and {len(inside) - 1} more."
    )
  else:
    near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.0)
    hint = "The nearest names are " + ", ".join(map(repr, near)) + "."
  raise errors.UserError(f"{setting}: {pattern!r} matches no {kind}. {hint}")

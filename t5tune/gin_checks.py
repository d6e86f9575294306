"""Checks gin values against the annotations of the parameters they feed.

Stands beside `config.py`, before the whole direction of data: gin itself passes
any value to any parameter, so a string where a number belongs would surface an
hour later, or never.
"""

import collections.abc
import dataclasses
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from t5tune.errors import did_you_mean
from t5tune.gin_files import Macro, Origin, Reference

_NUMBERS = (int, float)
_SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Iterable)
_MAPPINGS = (dict, collections.abc.Mapping)


class Mismatch(Exception):
  """A value that does not fit.

  Attributes:
    value: the value at fault.
    origin: where it was written.
    hint: what to write instead, "" when there is nothing to add.
    macro: the macro that holds the value, or None.
  """

  def __init__(self, value: Any, origin: Origin, hint: str = ""):
    super().__init__(f"{origin.place}: {value!r}")
    self.value, self.origin, self.hint = value, origin, hint
    self.macro: str | None = None


def parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
  """Returns what can be bound on a function or class, annotations resolved.

  Args:
    target: a function, method or class (its constructor's parameters).

  Returns:
    Name to parameter, without `self` and `*args`; a `**kwargs` stays, so that the
    caller knows any name is taken.
  """
  construct = target
  if inspect.isclass(target):
    # Not the class itself: a metaclass, such as Flax's, hides the signature.
    construct = target.__init__
    if construct is object.__init__:
      construct = target.__new__
    if construct is object.__new__:
      return {}
  try:
    hints = typing.get_type_hints(construct)
  except NameError:  # A name imported for type checkers only.
    hints = {}
  found = list(inspect.signature(construct).parameters.items())
  if inspect.isclass(target):
    found = found[1:]  # self
  return {
    name: parameter.replace(annotation=hints.get(name, Any))
    for name, parameter in found
    if parameter.kind is not inspect.Parameter.VAR_POSITIONAL
  }


def _result_type(function: Callable[..., Any]) -> Any:
  try:
    return typing.get_type_hints(function).get("return", Any)
  except NameError:
    return Any


def in_words(annotation: Any) -> str:
  """Returns an annotation as an error names it: "an int", "None or a string"."""
  origin, args = typing.get_origin(annotation), typing.get_args(annotation)
  names = {int: "an int", float: "a number", str: "a string", bool: "True or False"}
  if annotation in (None, type(None)):
    return "None"
  if annotation in names:
    return names[annotation]
  if origin is typing.Annotated:
    return in_words(args[0])
  if origin is typing.Literal:
    return "one of " + ", ".join(map(repr, args))
  if origin in (typing.Union, types.UnionType):
    return " or ".join(in_words(a) for a in sorted(args, key=lambda a: a is not None))
  if origin in _SEQUENCES or annotation in _SEQUENCES:
    if not args:
      return "a list"
    if origin is tuple and ... not in args:
      return f"a list of {len(args)}: " + ", ".join(map(in_words, args))
    plural = {int: "ints", float: "numbers", str: "strings"}.get(args[0])
    return f"a list of {plural}" if plural else f"a list, each {in_words(args[0])}"
  if origin in _MAPPINGS or annotation in _MAPPINGS:
    return "a dict" + (
      f" from {in_words(args[0])} to {in_words(args[1])}" if args else ""
    )
  if origin is collections.abc.Callable or annotation is collections.abc.Callable:
    return "a function (@name)"
  return f"a {annotation.__name__}" if inspect.isclass(annotation) else str(annotation)


def value_in_words(value: Any) -> str:
  """Returns the kind of a value: "a string", "a float", "a reference"."""
  if value is None:
    return "None"
  kinds = {str: "a string", int: "an int", bool: "a bool", float: "a float"}
  if isinstance(value, Reference):
    return "a reference"
  return kinds.get(type(value), f"a {type(value).__name__}")


@dataclasses.dataclass(frozen=True)
class Checker:
  """Fits values to annotations.

  Attributes:
    macros: macro name to its value and origin; a value that was fitted (1e3 to
      1000, a bare word to a list) is written back here.
  """

  macros: dict[str, tuple[Any, Origin]]

  def fit(self, value: Any, annotation: Any, origin: Origin) -> Any:
    """Returns `value` as `annotation` wants it.

    Args:
      value: a parsed gin value.
      annotation: the parameter's resolved annotation.
      origin: where the value was written.

    Returns:
      The value, or its exact conversion: an integral float for an int, and from
      the command line the bare text for a string, one word for a list of strings.

    Raises:
      Mismatch: it does not fit.
    """
    if isinstance(value, Macro):
      held, defined = self.macros[value.name]
      try:
        self.macros[value.name] = (self.fit(held, annotation, defined), defined)
      except Mismatch as e:
        e.macro = e.macro or value.name
        raise
      return value
    return self._fit(value, annotation, origin, loose=True)

  def _fit(self, value: Any, annotation: Any, origin: Origin, loose: bool) -> Any:
    if isinstance(value, Macro):
      return self.fit(value, annotation, origin)
    base, args = typing.get_origin(annotation), typing.get_args(annotation)
    base = base or annotation
    if annotation in (Any, inspect.Parameter.empty, object):
      return value
    if isinstance(annotation, (typing.TypeVar, str)):
      return value
    if base is typing.Annotated:
      return self._fit(value, args[0], origin, loose)
    if base in (typing.Union, types.UnionType):
      return self._fit_union(value, annotation, origin, loose)
    if isinstance(value, Reference):
      return self._fit_reference(value, annotation, origin)
    if base is typing.Literal:
      return self._fit_literal(value, annotation, origin)
    if base in _SEQUENCES:
      return self._fit_sequence(value, annotation, origin, loose)
    if base in _MAPPINGS:
      if not isinstance(value, Mapping):
        raise Mismatch(value, origin)
      key, item = args or (Any, Any)
      inner = Origin(origin.place)  # Only a whole flag has its bare text at hand.
      return {
        self._fit(k, key, inner, loose): self._fit(v, item, inner, loose)
        for k, v in value.items()
      }
    return self._fit_plain(value, base, origin, loose)

  def _fit_union(self, value, annotation, origin, loose):
    members = typing.get_args(annotation)
    none = origin.flag is not None and str(value).lower() in ("none", "null")
    if none and value is not None and type(None) in members:
      raise Mismatch(value, origin, "Write None.")
    # As written first, so that 300 for `str | int` stays a number.
    for conversions in (False, True) if loose else (False,):
      for member in members:
        try:
          return self._fit(value, member, origin, conversions)
        except Mismatch:
          continue
    raise Mismatch(value, origin, _hint(value, annotation))

  def _fit_reference(self, value, annotation, origin):
    base = typing.get_origin(annotation) or annotation
    result = value.configurable.fn_or_cls
    if value.evaluate:
      if inspect.isfunction(result):
        result = _result_type(result)
      fits = not inspect.isclass(result) or not inspect.isclass(base)
      fits = fits or issubclass(result, base)
    else:
      fits = base in (collections.abc.Callable, type) or not inspect.isclass(base)
    if fits:
      return value
    hint = "" if value.evaluate else f"Write @{value.selector}() for its result."
    raise Mismatch(value, origin, hint)

  def _fit_literal(self, value, annotation, origin):
    for choice in typing.get_args(annotation):
      if value == choice and type(value) is type(choice):
        return value
      if origin.flag is not None and origin.flag == choice:
        return choice
    raise Mismatch(value, origin, _hint(value, annotation))

  def _fit_sequence(self, value, annotation, origin, loose):
    base = typing.get_origin(annotation) or annotation
    args = typing.get_args(annotation)
    if isinstance(value, str):
      one_word = loose and origin.flag is not None and "," not in value
      if not one_word:
        raise Mismatch(value, origin, _hint(value, annotation))
      value = [value]
    if not isinstance(value, (list, tuple)):
      raise Mismatch(value, origin, _hint(value, annotation))
    if base is tuple and args and ... not in args:
      if len(value) != len(args):
        raise Mismatch(value, origin)
      members = args
    else:
      members = [args[0] if args else Any] * len(value)
    inner = Origin(origin.place)  # Only a whole flag has its bare text at hand.
    fitted = (
      self._fit(v, a, inner, loose) for v, a in zip(value, members, strict=True)
    )
    return type(value)(fitted)

  def _fit_plain(self, value, base, origin, loose):
    number = isinstance(value, _NUMBERS) and not isinstance(value, bool)
    if base is None or base is type(None):
      if value is None:
        return None
    elif base is int:
      if number and (isinstance(value, int) or (loose and value.is_integer())):
        return int(value)
    elif base is float:
      if number:
        return value
    elif base is str:
      if isinstance(value, str):
        return value
      if loose and number and origin.flag is not None:
        return origin.flag
    elif not inspect.isclass(base) or base is bool and isinstance(value, bool):
      return value
    elif base is not bool and isinstance(value, base):
      return value
    raise Mismatch(value, origin, _hint(value, base))


def _hint(value: Any, annotation: Any) -> str:
  """Returns what to write instead, where the mistake is a usual one."""
  members = typing.get_args(annotation) or (annotation,)
  python = {"true": "True", "false": "False", "none": "None", "null": "None"}
  if typing.get_origin(annotation) is typing.Literal:
    return did_you_mean(str(value), map(str, members)).strip()
  if isinstance(value, str):
    if value.lower() in python and (bool in members or type(None) in members):
      return f"Write {python[value.lower()]}."
    if typing.get_origin(annotation) in _SEQUENCES:
      words = ", ".join(repr(word.strip()) for word in value.split(","))
      return f"Write [{words}]."
    number = re.fullmatch(r"-?[\d.]+(e-?\d+)?", value)
    if number and (int in members or float in members):
      return f"Write {value} without quotes."
  if isinstance(value, int) and bool in members:
    return f"Write {bool(value)}."
  if isinstance(value, float) and int in members and math.isfinite(value):
    return f"Write a whole number, such as {round(value)}."
  return ""

"""Writes a checked configuration as text that gin reads.

Stands before the whole direction of data: `config.py` decides what holds, and
this text is at once what gin gets, what is printed and what a run saves.
"""

import ast
import math
from collections.abc import Iterator
from typing import Any

from t5tune import gin_checks
from t5tune.gin_files import REQUIRED, Macro, Origin, Reference
from t5tune.gin_names import Binding, Configurable, walk

_HEADER = """\
# The complete configuration of a run: every binding that holds and where it was
# written, defaults included. It reruns the job: --gin_file=<this file>
from __gin__ import dynamic_registration
"""


def _is_literal(value: Any) -> bool:
  """Whether gin can read `value` back from its `repr`."""
  try:
    return ast.literal_eval(repr(value)) == value
  except (ValueError, SyntaxError):
    return False


def plain(value: Any, winners: dict[Any, Binding]) -> Any:
  """Returns a value with its macros replaced and references as text."""
  if isinstance(value, Macro):
    return plain(winners["", value.name, ""].value, winners)
  if isinstance(value, Reference):
    return source(value)
  if isinstance(value, (list, tuple)):
    return type(value)(plain(item, winners) for item in value)
  if isinstance(value, dict):
    return {plain(k, winners): plain(v, winners) for k, v in value.items()}
  return value


def source(value: Any, names: dict[str, str] | None = None) -> str:
  """Returns a value as gin reads it; `names` are the modules' names in the text."""
  if isinstance(value, Macro):
    return f"%{value.name}"
  if isinstance(value, Reference):
    selector = value.selector
    if names and value.configurable:
      selector = f"{names[value.configurable.module]}.{value.configurable.path}"
    scope = f"{value.scope}/" if value.scope else ""
    return f"@{scope}{selector}{'()' if value.evaluate else ''}"
  if isinstance(value, dict):
    items = [f"{source(k, names)}: {source(v, names)}" for k, v in value.items()]
    return "{" + ", ".join(items) + "}"
  if isinstance(value, list):
    return "[" + ", ".join(source(item, names) for item in value) + "]"
  if isinstance(value, tuple):
    items = [source(item, names) for item in value]
    return "(" + ", ".join(items) + ("," if len(items) == 1 else "") + ")"
  if isinstance(value, float) and math.isinf(value):
    return "1e999" if value > 0 else "-1e999"  # gin reads no `inf`.
  return repr(value)


def overrides(chains: dict[Any, list[Binding]], winners: dict[Any, Binding]):
  lines = []
  for key, b in winners.items():
    shown = [source(b.value)]
    line = f"{b}: {shown[0]} ({b.origin.short()})"
    for weaker in reversed(chains[key][:-1]):
      text = source(weaker.value)
      if text != shown[-1] and weaker.value != Macro(REQUIRED):
        shown.append(text)
        line += f" over {text} ({weaker.origin.short()})"
    if len(shown) > 1:
      lines.append(line)
  return lines


def flat(imported: list[str], winners: dict[Any, Binding]) -> str:
  """Returns the flat gin file: imports, macros, then parameters by configurable."""
  configurables = _in_order(winners)
  names: dict[str, str] = {}
  for module in dict.fromkeys([*imported, *(c.module for c in configurables)]):
    last = module.rpartition(".")[2]
    taken = last == "gin" or last in names.values()
    names[module] = module.replace(".", "_") if taken else last
  lines = [_HEADER]
  for module, name in names.items():
    parent, _, last = module.rpartition(".")
    alias = "" if name == last else f" as {name}"
    lines.append(f"{f'from {parent} ' if parent else ''}import {last}{alias}")
  lines.append("")
  for b in winners.values():
    if b.is_macro:
      lines.append(f"{b} = {source(b.value, names)}  # {b.origin.short()}")
  for configurable in configurables:
    lines.append("")
    key = f"{names[configurable.module]}.{configurable.path}"
    own = [b for b in winners.values() if b.configurable == configurable]
    for b in own:
      scope = f"{b.scope}/" if b.scope else ""
      value = source(b.value, names)
      lines.append(f"{scope}{key}.{b.arg} = {value}  # {b.origin.short()}")
    given = {b.arg for b in own if not b.scope}
    for arg, value in _defaults(configurable):
      if arg not in given:
        lines.append(f"{key}.{arg} = {value!r}  # default")
  return "\n".join(lines) + "\n"


def _in_order(winners: dict[Any, Binding]) -> list[Configurable]:
  """Returns what is bound or referred to, each before what its bindings refer to.

  So a text that is read again gives the same text.
  """
  found: dict[Configurable, None] = {}

  def refer(value: Any) -> None:
    for item in walk(value):
      if isinstance(item, Reference):
        visit(item.configurable)

  def visit(configurable: Configurable) -> None:
    if configurable not in found:
      found[configurable] = None
      for b in winners.values():
        if b.configurable == configurable:
          refer(b.value)

  for b in winners.values():
    if b.is_macro:
      refer(b.value)
    else:
      visit(b.configurable)
  return list(found)


def _defaults(configurable: Configurable) -> Iterator[tuple[str, Any]]:
  """Yields the defaults of a class that gin can write and its annotations allow."""
  if not isinstance(configurable.fn_or_cls, type):
    return  # A function may get its other arguments from its caller.
  for name, parameter in gin_checks.parameters(configurable.fn_or_cls).items():
    if parameter.default is parameter.empty or not _is_literal(parameter.default):
      continue
    try:
      gin_checks.Checker({}).fit(parameter.default, parameter.annotation, Origin(""))
    except gin_checks.Mismatch:
      continue
    yield name, parameter.default

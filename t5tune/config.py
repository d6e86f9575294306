"""Configuration by gin, with its traps closed.

Stands before the whole direction of data: what a run does is decided here, and
checked before anything starts. `gin_files.py` parses the files and puts them in
order, `gin_names.py` finds the classes they name, `gin_checks.py` knows the
types; this module keeps the binding that holds for each name and hands gin the
one flat text of `gin_text.py`, which leaves nothing to chance.
"""

import dataclasses
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import gin
from t5tune import gin_checks, gin_text
from t5tune.errors import UserError, did_you_mean
from t5tune.gin_files import (
  REQUIRED,
  Macro,
  Reference,
  find_gin_file,
  from_flag,
  in_order,
)
from t5tune.gin_names import Binding, Names, resolve, walk

__all__ = ["Config", "find_gin_file", "load"]

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Config:
  """A checked configuration.

  Attributes:
    text: one flat gin file with every binding that holds.
    overrides: lines such as "TRAIN_STEPS: 300 (--gin.TRAIN_STEPS) over 2000
      (gin/multitask.gin:12)", one for each name bound more than once.
    macros: macro name to value, for the macros that feed a parameter.
  """

  text: str
  overrides: list[str]
  macros: dict[str, Any]
  _winners: dict[Any, Binding] = dataclasses.field(repr=False)

  def build(self, cls: Callable[..., T]) -> T:
    """Returns `cls` filled by gin.

    Args:
      cls: the class (or function) at the root of the configuration.

    Returns:
      What `cls` returns, here an instance.

    Raises:
      UserError: a parameter without value or default, a binding that reaches
        nothing `cls` uses, or what `cls` itself finds wrong.
    """
    self._check_reached(cls)
    gin.clear_config()
    gin.parse_config(self.text)
    bound = any(b.configurable.fn_or_cls is cls for b in self._parameters())
    try:
      return gin.get_configurable(cls)() if bound else cls()
    except UserError as e:
      # gin appends the call it was in.
      message = str(e).split("\n  In call to configurable")[0]
      raise UserError(message + self._written(message)) from e

  def _parameters(self) -> list[Binding]:
    return [b for b in self._winners.values() if not b.is_macro]

  def _written(self, message: str) -> str:
    """Returns where the macros were written that a message names."""
    words = set(re.findall(r"\w+", message))
    lines = [
      f"\n  {name} = {self.macros[name]!r} ({b.origin.short()})"
      for name, b in ((b.configurable, b) for b in self._winners.values() if b.is_macro)
      if name in words and name in self.macros
    ]
    return "".join(lines)

  def _references(
    self, value: Any, scope: tuple[str, ...]
  ) -> Iterator[tuple[tuple[str, ...], Reference]]:
    """Yields the references in a value with the scope gin calls them in."""
    for item in walk(value):
      if isinstance(item, Reference):
        yield (tuple(item.scope.split("/")) if item.scope else scope), item
      else:  # gin evaluates a macro in a scope of its own name.
        held = self._winners["", item.name, ""].value
        yield from self._references(held, tuple(item.name.split("/")))

  def _check_reached(self, root: Callable[..., Any]) -> None:
    """Checks that every binding is used by `root` and that nothing lacks a value."""
    bindings = self._parameters()
    seen, used = set(), set()
    calls = [((), root, True, "")]
    while calls:
      scope, target, evaluated, place = calls.pop()
      if (scope, target, evaluated) in seen:
        continue
      seen.add((scope, target, evaluated))
      given = set()
      for b in bindings:
        own = tuple(b.scope.split("/")) if b.scope else ()
        if b.configurable.fn_or_cls is target and scope[: len(own)] == own:
          used.add(b.key)
          given.add(b.arg)
          calls += [
            (s, r.configurable.fn_or_cls, r.evaluate, f"{b.origin.place}: ")
            for s, r in self._references(b.value, scope)
          ]
      if evaluated:  # A function handed over may get the rest from its caller.
        _check_complete(target, given, place)
    for b in bindings:
      if b.key not in used:
        name = b.configurable
        raise UserError(
          f"{b.origin.place}: {b} has no effect: nothing in {_name(root)} refers to "
          f"@{b.scope + '/' if b.scope else ''}{name}. Remove it or bind @{name}()."
        )


def _name(target: Callable[..., Any]) -> str:
  return f"{target.__module__.rpartition('.')[2]}.{target.__qualname__}"


def _check_complete(target: Callable[..., Any], given: set[str], place: str) -> None:
  """Checks that each parameter without a default is in `given`."""
  for name, parameter in gin_checks.parameters(target).items():
    named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    if named and parameter.default is parameter.empty and name not in given:
      key = f"{_name(target)}.{name}"
      wanted = gin_checks.in_words(parameter.annotation)
      raise UserError(
        f"{place}{key} has no value and no default; it takes {wanted}. "
        f"Write {key} = ... in a gin file or give --gin.{key}=..."
      )


def load(
  gin_files: Sequence[str],
  overrides: Sequence[tuple[str, str]] = (),
  search: Sequence[os.PathLike | str] = (),
) -> Config:
  """Reads gin files and command-line bindings into one checked configuration.

  Include < includer < later file < flag, wherever an include statement stands.

  Args:
    gin_files: paths, or names of recipes in our `gin/`.
    overrides: (name, value) of each `--gin.name=value`, as the shell gave them.
    search: folders looked through before our `gin/`.

  Returns:
    The configuration; nothing of it is in gin's global state before `build`.

  Raises:
    UserError: anything misspelt, bound twice in a file, of the wrong type,
      without value or without use; the message starts with file:line or the flag.
  """
  if not gin_files:
    raise UserError("No gin file given. Name one, for example --gin_file=demo.gin.")
  bindings, imported, all_names = [], [], Names()
  for file in in_order(gin_files, search):
    names = Names()
    imported += [names.add(statement, origin) for statement, origin in file.imports]
    all_names.modules.update(names.modules)
    bindings += _bound_once([resolve(s, names) for s in file.statements])
  bindings += [resolve(from_flag(name, raw), all_names) for name, raw in overrides]

  chains: dict[Any, list[Binding]] = {}
  for binding in bindings:
    chains.setdefault(binding.key, []).append(binding)
  winners = {key: chain[-1] for key, chain in chains.items()}
  _check_used(bindings, winners)
  _drop_idle_macros(bindings, winners)
  _fit_types(winners)
  return Config(
    text=gin_text.flat([module for module in imported if module], winners),
    overrides=gin_text.overrides(chains, winners),
    macros={
      b.configurable: gin_text.plain(b.value, winners)
      for b in winners.values()
      if b.is_macro
    },
    _winners=winners,
  )


def _bound_once(bindings: list[Binding]) -> list[Binding]:
  first: dict[Any, Binding] = {}
  for b in bindings:
    if b.key in first:
      line = first[b.key].origin.place.rpartition(":")[2]
      raise UserError(
        f"{b.origin.place}: {b} is bound twice in this file, first on line {line}. "
        "Remove one of the two."
      )
    first[b.key] = b
  return bindings


def _check_used(bindings: list[Binding], winners: dict[Any, Binding]) -> None:
  """Checks that some binding uses each macro that is defined."""
  used = {
    item.name: b for b in bindings for item in walk(b.value) if isinstance(item, Macro)
  }
  names = sorted(used.keys() - {REQUIRED})
  filled = {b.configurable for b in winners.values() if not b.is_macro}
  parameters = [
    f"{c}.{name}" for c in filled for name in gin_checks.parameters(c.fn_or_cls)
  ]
  for b in winners.values():
    if not b.is_macro or b.configurable in used:
      continue
    near = did_you_mean(b.configurable, [*names, *parameters])
    exact = [p for p in parameters if p.endswith(f".{b.configurable}")]
    if b.configurable.upper() in names:
      exact = [b.configurable.upper()]
    if exact:
      near = f" Did you mean {exact[0]!r}?"
    elif not near:
      near = (
        f" Used are: {', '.join(names)}."
        if names
        else (
          " No macro is used at all: does the file include a run, such as "
          "include 'runs/finetune.gin'?"
        )
      )
    raise UserError(f"{b.origin.place}: nothing uses the macro {b}.{near}")


def _drop_idle_macros(bindings: list[Binding], winners: dict[Any, Binding]) -> None:
  """Leaves in `winners` the macros that feed a parameter; all of these have values."""
  needed: set[str] = set()

  def visit(user: Binding, feeds: Binding, above: tuple[str, ...]) -> None:
    for item in walk(user.value):
      if not isinstance(item, Macro):
        continue
      if item.name == REQUIRED:
        raise UserError(_no_value(user, feeds))
      if item.name in above:
        raise UserError(
          f"{user.origin.place}: the macros {' -> '.join([*above, item.name])} "
          "refer to each other in a circle. Give one of them a value."
        )
      if ("", item.name, "") not in winners:
        defined = {b.configurable for b in bindings if b.is_macro} - {item.name}
        raise UserError(
          f"{user.origin.place}: {user} uses the macro %{item.name}, which nothing "
          f"defines.{did_you_mean(item.name, defined)} Write {item.name} = ... in a "
          f"gin file or give --gin.{item.name}=..."
        )
      needed.add(item.name)
      visit(winners["", item.name, ""], feeds, (*above, item.name))

  for b in list(winners.values()):
    if not b.is_macro:
      visit(b, b, ())
  for key, b in list(winners.items()):
    if b.is_macro and b.configurable not in needed:
      if b.origin.flag is not None:
        raise UserError(
          f"{b.origin.place}: {b} has no effect: the bindings that used it were "
          "themselves overridden. Drop the flag or bind the parameter itself."
        )
      del winners[key]


def _no_value(user: Binding, feeds: Binding) -> str:
  wanted = gin_checks.in_words(_annotation(feeds))
  which = f"it takes {wanted}" if user is feeds else f"{feeds} takes {wanted} from it"
  return (
    f"{user.origin.place}: {user} must be set; {which}. "
    f"Write {user} = ... in your gin file or give --gin.{user}=..."
  )


def _annotation(b: Binding) -> Any:
  known = gin_checks.parameters(b.configurable.fn_or_cls)
  return known[b.arg].annotation if b.arg in known else Any


def _fit_types(winners: dict[Any, Binding]) -> None:
  """Fits every value to the parameters it feeds, in place."""
  macros = {b.configurable: (b.value, b.origin) for b in winners.values() if b.is_macro}
  checker = gin_checks.Checker(macros)
  for key, b in winners.items():
    if b.is_macro:
      continue
    try:
      fitted = checker.fit(b.value, _annotation(b), b.origin)
    except gin_checks.Mismatch as e:
      raise UserError(_misfit(e, b, macros)) from e
    winners[key] = dataclasses.replace(b, value=fitted)
  for name, (value, _) in macros.items():
    winners["", name, ""] = dataclasses.replace(winners["", name, ""], value=value)


def _misfit(e: gin_checks.Mismatch, b: Binding, macros: dict[str, Any]) -> str:
  whole = macros[e.macro][0] if e.macro else b.value
  name = e.macro or str(b)
  feeds = f"{b} ({b.origin.short()})" if e.macro else "the parameter"
  inside = "" if e.value is whole else f" holds {gin_text.source(e.value)}, which"
  kind = gin_checks.value_in_words(e.value)
  given = name if whole is None else f"{name} = {gin_text.source(whole)}{inside}"
  text = (
    f"{e.origin.place}: {given} is {kind}, but {feeds} takes "
    f"{gin_checks.in_words(_annotation(b))}."
  )
  return f"{text} {e.hint}" if e.hint else text

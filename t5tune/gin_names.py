"""Names in gin files: turns selectors into functions and classes.

Stands before the whole direction of data, between `gin_files.py`, which parses,
and `config.py`, which decides. As under gin's dynamic registration a file sees
only what it imports; library code carries no gin decorators.
"""

import dataclasses
import importlib
import inspect
import pkgutil
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from typing import Any

from t5tune import gin_checks
from t5tune.errors import UserError, did_you_mean
from t5tune.gin_files import Macro, Origin, Reference, Statement


@dataclasses.dataclass(frozen=True)
class Configurable:
  """A function or class that gin fills; two are equal when their object is."""

  fn_or_cls: Callable[..., Any]
  module: str = dataclasses.field(compare=False)
  path: str = dataclasses.field(compare=False)  # "Run", or "Run.method".

  def __str__(self) -> str:
    return f"{self.module.rpartition('.')[2]}.{self.path}"


@dataclasses.dataclass(frozen=True)
class Binding:
  """`scope/configurable.arg = value`; for a macro `configurable` is its name."""

  scope: str
  configurable: Configurable | str
  arg: str
  value: Any
  origin: Origin

  @property
  def key(self) -> tuple[str, Configurable | str, str]:
    return self.scope, self.configurable, self.arg

  @property
  def is_macro(self) -> bool:
    return isinstance(self.configurable, str)

  def __str__(self) -> str:
    scope = f"{self.scope}/" if self.scope else ""
    return scope + str(self.configurable) + (f".{self.arg}" if self.arg else "")


def walk(value: Any) -> Iterator[Macro | Reference]:
  """Yields the macros and references inside a value."""
  if isinstance(value, (Macro, Reference)):
    yield value
  elif isinstance(value, (list, tuple)):
    for item in value:
      yield from walk(item)
  elif isinstance(value, dict):
    for pair in value.items():
      yield from walk(pair)


def _import(module: str, origin: Origin) -> types.ModuleType:
  """Imports a module that a gin file names."""
  try:
    return importlib.import_module(module)
  except UserError as e:
    raise UserError(f"{origin.place}: importing {module} failed: {e}") from e
  except ModuleNotFoundError as e:
    if not f"{module}.".startswith(f"{e.name}."):  # A bug of its own.
      raise _failed_import(module, origin, e) from e
    parent, _, name = (e.name or module).rpartition(".")
    within = sys.modules.get(parent)
    if hasattr(within, name):
      raise UserError(
        f"{origin.place}: {e.name} is no module, and gin imports modules only. "
        f"Import {parent} and write its {name} in full."
      ) from e
    folders = getattr(within, "__path__", []) if parent else None
    near = did_you_mean(name, {m.name for m in pkgutil.iter_modules(folders)})
    raise UserError(
      f"{origin.place}: there is no module {e.name!r}.{near} "
      "It is looked up in the working directory, PYTHONPATH and installed packages."
    ) from e
  except Exception as e:  # Whatever the module's own code raises.
    raise _failed_import(module, origin, e) from e


def _failed_import(module: str, origin: Origin, e: Exception) -> UserError:
  frame = traceback.extract_tb(e.__traceback__)[-1]
  where = f"{frame.filename}:{frame.lineno}"
  if isinstance(e, SyntaxError):
    where = f"{e.filename}:{e.lineno}"
  return UserError(
    f"{origin.place}: importing {module} failed: {type(e).__name__}: {e} ({where})"
  )


class Names:
  """The modules that one gin file imports, by the names it gives them."""

  def __init__(self):
    self.modules: dict[str, types.ModuleType] = {}

  def add(self, statement, origin: Origin) -> str | None:
    """Imports what a statement names; returns the module, None for `__gin__`."""
    if statement.module.startswith("__gin__."):
      if statement.module != "__gin__.dynamic_registration":
        raise UserError(
          f"{origin.place}: gin has no feature {statement.module[8:]!r}. "
          "Write `from __gin__ import dynamic_registration`."
        )
      return None
    module = _import(statement.module, origin)
    bound = statement.bound_name()
    if not statement.is_from and not statement.alias:
      self.modules[bound] = sys.modules[bound]
    else:
      self.modules[bound] = module
    return statement.module

  def resolve(self, selector: str, origin: Origin) -> Configurable:
    """Finds the function or class that `selector` names."""
    first, *rest = selector.split(".")
    if first not in self.modules:
      holders = [f"{k}.{first}" for k, v in self.modules.items() if hasattr(v, first)]
      near = f" Write {holders[0]}." if holders else did_you_mean(first, self.modules)
      near = near or f" Imported are: {', '.join(sorted(self.modules)) or 'none'}."
      raise UserError(
        f"{origin.place}: {selector}: no import here provides {first!r}.{near}"
      )
    found: Any = self.modules[first]
    module, path = found.__name__, []
    for name in rest:
      if not hasattr(found, name):
        known = [
          k for k, v in vars(found).items() if callable(v) or inspect.ismodule(v)
        ]
        at = ".".join([module, *path])
        raise UserError(
          f"{origin.place}: {selector}: {at} has no {name!r}.{did_you_mean(name, known)}"
        )
      found = getattr(found, name)
      module, path = (
        (found.__name__, []) if inspect.ismodule(found) else (module, [*path, name])
      )
    if not callable(found):
      raise UserError(
        f"{origin.place}: {selector} is no function or class, so gin cannot fill it. "
        "A binding is module.Class.parameter = value."
      )
    return Configurable(found, module, ".".join(path))


def resolve(statement: Statement, names: Names) -> Binding:
  """Turns the names of a statement and of the references in it into objects."""
  origin = statement.origin

  def resolved(value: Any) -> Any:
    if isinstance(value, Reference):
      found = names.resolve(value.selector, origin)
      return dataclasses.replace(value, selector=str(found), configurable=found)
    if isinstance(value, (list, tuple)):
      return type(value)(resolved(item) for item in value)
    if isinstance(value, dict):
      return {resolved(k): resolved(v) for k, v in value.items()}
    return value

  value = resolved(statement.value)
  if not statement.arg:
    return Binding("", statement.selector, "", value, origin)
  configurable = names.resolve(statement.selector, origin)
  known = gin_checks.parameters(configurable.fn_or_cls)
  open_ended = any(p.kind is p.VAR_KEYWORD for p in known.values())
  if statement.arg not in known and not open_ended:
    near = did_you_mean(statement.arg, known) or f" It has: {', '.join(known)}."
    raise UserError(
      f"{origin.place}: {configurable} has no parameter {statement.arg!r}.{near}"
    )
  return Binding(statement.scope, configurable, statement.arg, value, origin)

"""Fingerprints: a name for all that shaped a token store.

A function is known by its code and by what it refers to: a changed helper or
template three calls away gives another fingerprint, a changed comment does not.
Values are taken as they stand, so ask before a pipeline runs and fills caches.
"""

import ast
import copyreg
import dataclasses
import dis
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import pathlib
import re
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from typing import Any

_LIBRARIES = tuple(
  str(pathlib.Path(sysconfig.get_paths()[key]).resolve())
  for key in ("stdlib", "platstdlib", "purelib", "platlib")
)
# An installed t5tune still counts as own code: it may be edited in place.
_own = {str(pathlib.Path(__file__).resolve().parents[1]) + os.sep}
# Attributes that python adds, or that say nothing of what code does.
_NOISE = {
  *("__dict__", "__weakref__", "__doc__", "__module__", "__annotations__"),
  *("__dataclass_fields__", "__dataclass_params__", "__firstlineno__"),
  *("__static_attributes__", "_abc_impl"),
}
_LOCAL = {*dis.haslocal, *dis.hasfree}
_PLAIN = bool | int | float | str | bytes | re.Pattern | pathlib.PurePath | None


def digest(*parts: Any) -> str:
  """Returns 32 hexadecimal digits that name the parts and all they refer to.

  Args:
    *parts: JSON values, functions, partials, dataclasses, objects or types.
  """
  walk = _Walk()
  described = [_describe(part, walk) for part in parts]
  if walk.opaque:
    described.append([_source_digest(m) for m in sorted(walk.modules)])
  text = json.dumps(described)
  return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_digest(path: str | pathlib.Path) -> str:
  """Returns the SHA-256 of a file, in hexadecimal."""
  with open(path, "rb") as f:
    return hashlib.file_digest(f, "sha256").hexdigest()


def count_as_own(module: str) -> None:
  """Makes an imported module's whole package own code, even where it is installed.

  Args:
    module: a module that registers tasks; its version is not among `versions`.
  """
  package = sys.modules[module.split(".")[0]]
  folders = [_resolved(p) + os.sep for p in getattr(package, "__path__", ())]
  file = getattr(package, "__file__", None)
  _own.update(folders or ([_resolved(file)] if file else []))


def own_code_files() -> list[str]:
  """Returns the files of every loaded module that no package manager installed.

  These are the user's task modules and what they import. Code in site-packages
  is known by `versions`.
  """
  files = {
    getattr(module, "__file__", None)
    for name, module in list(sys.modules.items())
    if not name.startswith("__autograph_generated")  # gone when tensorflow ends
  }
  # Some modules, as one of torch, name a file that there is not.
  files = {f for f in files if f and f.endswith(".py") and os.path.isfile(f)}
  return sorted(f for f in files if not is_library(f))


def versions() -> dict[str, str]:
  """Returns the versions of the packages that make tokens."""
  names = ("t5tune", "seqio", "sentencepiece", "tensorflow", "tensorflow-text")
  return {name: importlib.metadata.version(name) for name in names}


@functools.cache
def _resolved(file: str) -> str:
  return str(pathlib.Path(file).resolve())


def is_library(file: str) -> bool:
  """Returns whether code lies where a package manager put it, or has no file."""
  path = _resolved(file)
  installed = path.startswith(_LIBRARIES) and not path.startswith(tuple(_own))
  return installed or file.startswith("<")


def _is_library_module(name: str | None) -> bool:
  module = sys.modules.get(name or "__main__")
  if module is None or module.__name__ == "__main__":
    return False
  file = getattr(module, "__file__", None)
  places = [file] if file else getattr(module, "__path__", ())
  return all(map(is_library, places))  # a module built into python has no place


@dataclasses.dataclass
class _Walk:
  """What a description has met so far.

  Attributes:
    seen: functions, objects and containers by id, with their number; they are held
      here so that no id is given out twice.
    modules: own modules whose functions and classes were met.
    opaque: whether a library's object was met that does not show what it holds, such
      as a lookup table; then the source of the modules must speak for it.
  """

  seen: dict[int, tuple[int, Any]] = dataclasses.field(default_factory=dict)
  modules: set[str] = dataclasses.field(default_factory=set)
  opaque: bool = False


def _describe(value: Any, walk: _Walk) -> Any:
  """Returns a JSON value that stands for `value` and what it refers to."""
  if value is None or type(value) in (bool, int, float, str):
    return value
  seen, again = walk.seen, functools.partial(_describe, walk=walk)
  kind = type(value).__name__ if type(value).__module__ == "builtins" else None
  if isinstance(value, bytes):
    return ["bytes", hashlib.blake2b(value).hexdigest()]
  if isinstance(value, tuple):
    # Never by identity: that of a constant differs between source and .pyc.
    return [kind or again(type(value)), [again(v) for v in value]]
  if isinstance(value, types.ModuleType):
    return ["module", value.__name__]
  if isinstance(value, types.BuiltinFunctionType):
    return ["builtin", _name(value), again(value.__self__)]
  if id(value) in seen:  # recursion, or a helper used twice
    return ["seen", seen[id(value)][0]]
  seen[id(value)] = len(seen), value
  if isinstance(value, set | frozenset):
    # Each from the same state: the order of a set differs between processes.
    members = []
    for member in value:
      walk.seen = dict(seen)
      members.append(again(member))
    walk.seen = seen
    members.sort(key=repr)
    if isinstance(value, frozenset):
      del seen[id(value)]  # may be a constant, as a tuple
    return [kind or again(type(value)), members]
  if isinstance(value, dict | types.MappingProxyType):
    items = [[again(k), again(v)] for k, v in value.items()]
    factory = getattr(value, "default_factory", None)
    return [kind or again(type(value)), items, again(factory)]
  if isinstance(value, list):
    return [kind or again(type(value)), [again(v) for v in value]]
  if isinstance(value, functools.partial):
    return ["partial", again(value.func), again(value.args), again(value.keywords)]
  if isinstance(value, types.MethodType):
    return ["method", again(value.__func__), again(value.__self__)]
  if isinstance(value, types.FunctionType):
    return _describe_function(value, walk, again)
  if isinstance(value, type):
    return _describe_class(value, walk, again)
  return _describe_object(value, walk, again)


def _name(value: Any) -> str:
  return f"{value.__module__}.{value.__qualname__}"


def _describe_function(function: types.FunctionType, walk: _Walk, again) -> Any:
  code = function.__code__
  held = [_cell(cell, again) for cell in function.__closure__ or ()]
  if code.co_filename.startswith("<"):  # generated, or frozen into python
    library = _is_library_module(function.__module__)
  else:
    library = is_library(code.co_filename)
  if library:
    return ["library", _name(function), held]
  walk.modules.add(function.__module__)
  names: dict[str, None] = {}
  modules: dict[str, types.ModuleType] = {}
  body = _describe_code(code, function.__globals__, names, modules, again)
  referred = _referred(names, function.__globals__, modules)
  attributes = {k: v for k, v in vars(function).items() if k not in _NOISE}
  return [
    "function",
    body,
    [[place, again(value)] for place, value in referred],
    *(again(function.__defaults__), again(function.__kwdefaults__)),
    *(held, again(attributes)),
  ]


def _cell(cell: types.CellType, again) -> Any:
  try:
    return again(cell.cell_contents)
  except ValueError:  # not filled yet
    return ["empty"]


def _describe_code(code, namespace, names: dict, modules: dict, again) -> Any:
  """Describes bytecode with its constants; adds to the names and modules it uses."""
  steps = list(dis.get_instructions(code))
  described = []
  names.update(dict.fromkeys(code.co_names))
  for i, step in enumerate(steps):
    value = step.argval
    if isinstance(value, types.CodeType):
      value = _describe_code(value, namespace, names, modules, again)
    elif step.opcode in _LOCAL:
      value = step.arg  # a renamed local variable is the same code
    else:
      value = again(value)
    described.append([step.opname, value])
    if step.opname == "IMPORT_NAME":
      wanted, level = steps[i - 1].argval, steps[i - 2].argval
      modules.update(_imported(step.argval, level, wanted or (), namespace))
  arguments = code.co_argcount + code.co_kwonlyargcount
  signature = [code.co_argcount, code.co_posonlyargcount, code.co_flags]
  # The last says what each `except` covers.
  return [
    *(signature, list(code.co_varnames[:arguments]), described),
    code.co_exceptiontable.hex(),
  ]


def _imported(
  name: str, level: int, wanted: tuple[str, ...], namespace: Mapping[str, Any]
) -> dict[str, types.ModuleType]:
  """Returns the own modules behind an import statement inside a function."""
  found = {}
  try:
    full = importlib.util.resolve_name("." * level + name, namespace.get("__package__"))
    top = importlib.util.find_spec(full.split(".")[0])
    places = [top.origin] if top.has_location else top.submodule_search_locations
    if not places or any(map(is_library, places)):
      return {}  # not imported here: libraries take seconds
    found[full] = importlib.import_module(full)
    for n in wanted if hasattr(found[full], "__path__") else ():
      if not hasattr(found[full], n):
        found[f"{full}.{n}"] = importlib.import_module(f"{full}.{n}")
  except Exception:  # the function fails there itself, or catches it
    pass
  return found


def _referred(
  names: Mapping[str, None], namespace: Mapping[str, Any], modules: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
  """Yields globals by these names, and what own modules among them hold by these."""
  queue = [("", namespace), *((name, vars(m)) for name, m in modules.items())]
  met = set(modules)
  for place, held in queue:
    for name in names:
      if name not in held:
        continue
      value = held[name]
      yield f"{place}.{name}", value
      if isinstance(value, types.ModuleType) and value.__name__ not in met:
        met.add(value.__name__)
        if not _is_library_module(value.__name__):
          queue.append((value.__name__, vars(value)))


def _describe_class(cls: type, walk: _Walk, again) -> Any:
  if _is_library_module(cls.__module__):
    return ["name", _name(cls)]
  walk.modules.add(cls.__module__)
  kept = {}
  for name, value in vars(cls).items():
    if name in _NOISE or isinstance(value, types.MemberDescriptorType):
      continue
    if isinstance(value, property):
      value = [value.fget, value.fset]
    kept[name] = getattr(value, "__func__", value)
  return ["class", cls.__qualname__, again(kept), again(cls.__bases__)]


def _describe_object(value: Any, walk: _Walk, again) -> Any:
  if hasattr(type(value), "__fingerprint__"):
    return ["object", again(type(value)), again(value.__fingerprint__())]
  try:
    held = dict(object.__getattribute__(value, "__dict__"))
  except (AttributeError, TypeError):
    held = {}
  if not held:
    return ["object", again(type(value)), again(_how_made(value))]
  held = {k: v for k, v in held.items() if k not in _NOISE}
  if isinstance(value, logging.Logger):
    held = {}
  elif _is_library_module(type(value).__module__):
    # It may hold caches, locks and names drawn at random: its settings are plain.
    plain = {k: v for k, v in held.items() if _is_setting(v, public=k[0] != "_")}
    if len(plain) < len(held):
      plain = {k: v for k, v in plain.items() if k[0] != "_" or callable(v)}
      walk.opaque |= not callable(value)
    held = plain
  return ["object", again(type(value)), again(held)]


def _how_made(value: Any) -> Any:
  """Returns how pickle would make an object: patterns, arrays, paths, slots."""
  reduce = copyreg.dispatch_table.get(type(value), lambda v: v.__reduce_ex__(4))
  try:
    made = reduce(value)
  except Exception:  # locks, files and the like have no content
    return None
  if isinstance(made, str):
    return made
  return [list(part) if isinstance(part, Iterator) else part for part in made]


def _is_setting(value: Any, public: bool) -> bool:
  if isinstance(value, list | tuple):
    return all(_is_setting(v, public) for v in value)
  if isinstance(value, dict):
    return public and all(_is_setting(v, public) for v in value.values())
  return callable(value) or isinstance(value, _PLAIN)


def _source_digest(module: str) -> Any:
  """Returns a digest of a module's statements, without comments and docstrings."""
  try:
    tree = ast.parse(pathlib.Path(sys.modules[module].__file__).read_bytes())
  except (KeyError, AttributeError, TypeError, OSError, SyntaxError):
    return None
  for node in ast.walk(tree):
    body = getattr(node, "body", None)
    if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
      if isinstance(body[0].value, ast.Constant):
        del body[0]
  return hashlib.blake2b(ast.dump(tree).encode()).hexdigest()

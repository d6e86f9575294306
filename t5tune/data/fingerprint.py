"""Fingerprints: a name for all that shaped a token store.

A function is known by its code and by what it refers to: a changed helper or
template three calls away gives another fingerprint, a changed comment does not.
"""

import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import sys
import sysconfig
import types
from collections.abc import Mapping
from typing import Any

_LIBRARIES = tuple(
  str(pathlib.Path(sysconfig.get_paths()[key]).resolve())
  for key in ("stdlib", "platstdlib", "purelib", "platlib")
)

_T5TUNE = str(pathlib.Path(__file__).resolve().parents[1]) + os.sep


def digest(*parts: Any) -> str:
  """Returns 32 hexadecimal digits that name the parts and all they refer to.

  Args:
    *parts: JSON values, functions, partials, dataclasses, objects or types.
  """
  text = json.dumps([_describe(part, {}) for part in parts], sort_keys=True)
  return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_digest(path: str | pathlib.Path) -> str:
  """Returns the SHA-256 of a file, in hexadecimal."""
  with open(path, "rb") as f:
    return hashlib.file_digest(f, "sha256").hexdigest()


def own_code_files() -> list[str]:
  """Returns the files of every loaded module that no package manager installed.

  These are the user's task modules and what they import. Code in site-packages
  is known by `versions`.
  """
  files = (getattr(m, "__file__", None) for m in list(sys.modules.values()))
  return sorted({f for f in files if f and f.endswith(".py") and not _is_library(f)})


def versions() -> dict[str, str]:
  """Returns the versions of the packages that make tokens."""
  names = ("t5tune", "seqio", "sentencepiece", "tensorflow", "tensorflow-text")
  return {name: importlib.metadata.version(name) for name in names}


def _is_library(file: str) -> bool:
  path = str(pathlib.Path(file).resolve())
  # An installed t5tune still counts as own code: it may be edited in place.
  return path.startswith(_LIBRARIES) and not path.startswith(_T5TUNE)


def _describe(value: Any, seen: dict[int, tuple[int, Any]]) -> Any:
  """Returns a JSON value that stands for `value` and what it refers to.

  Args:
    value: anything.
    seen: functions and objects met so far, by id, with their number; they are
      held here so that no id is given out twice.
  """
  if value is None or isinstance(value, (bool, int, float, str)):
    return value
  if isinstance(value, bytes):
    return ["bytes", value.hex()]
  again = functools.partial(_describe, seen=seen)
  if isinstance(value, Mapping):
    return ["map", sorted(([str(k), again(v)] for k, v in value.items()), key=repr)]
  if isinstance(value, (list, tuple)):
    return ["list", [again(v) for v in value]]
  if isinstance(value, (set, frozenset)):
    return ["set", sorted((again(v) for v in value), key=repr)]
  if id(value) in seen:  # recursion, or a helper used twice
    return ["seen", seen[id(value)][0]]
  seen[id(value)] = len(seen), value
  if isinstance(value, functools.partial):
    return ["partial", again(value.func), again(value.args), again(value.keywords)]
  if isinstance(value, types.MethodType):
    return ["method", again(value.__func__), again(value.__self__)]
  if isinstance(value, types.FunctionType):
    return _describe_function(value, again)
  if isinstance(value, type):
    return _describe_class(value, again)
  if isinstance(value, (types.ModuleType, types.BuiltinFunctionType)):
    return ["name", getattr(value, "__name__", repr(value))]
  held = getattr(value, "__dict__", {})
  if _is_library(
    getattr(sys.modules.get(type(value).__module__), "__file__", "") or ""
  ):
    # A library's object may hold caches and locks: its settings are plain values.
    held = {k: v for k, v in held.items() if _is_setting(v)}
  return ["object", again(type(value)), again(held)]


def _is_setting(value: Any) -> bool:
  if isinstance(value, (list, tuple)):
    return all(map(_is_setting, value))
  return callable(value) or isinstance(value, (bool, int, float, str, type(None)))


def _describe_function(function: types.FunctionType, again) -> Any:
  wrapped = getattr(function, "__wrapped__", None)
  code = function.__code__
  module = sys.modules.get(function.__module__)
  if _is_library(code.co_filename) or module is None:
    held = [cell.cell_contents for cell in function.__closure__ or ()]
    return ["library", function.__module__, function.__qualname__, again(held)]
  return [
    "function",
    _describe_code(code, function.__globals__, again),
    again(function.__defaults__),
    again(function.__kwdefaults__),
    again([cell.cell_contents for cell in function.__closure__ or ()]),
    again(wrapped),
  ]


def _describe_code(code: types.CodeType, namespace: Mapping[str, Any], again) -> Any:
  """Describes bytecode, constants, and the globals and attributes it names."""
  constants = [
    _describe_code(c, namespace, again) if isinstance(c, types.CodeType) else again(c)
    for c in code.co_consts
    if c != code.co_consts[0] or not isinstance(c, str)  # not the docstring
  ]
  referred = {n: namespace[n] for n in code.co_names if n in namespace}
  for value in list(referred.values()):
    if isinstance(value, types.ModuleType) and not _is_library(value.__file__ or ""):
      attributes = {n: getattr(value, n, None) for n in code.co_names}
      referred |= {f"{value.__name__}.{n}": v for n, v in attributes.items() if v}
  return [code.co_code.hex(), constants, list(code.co_names), again(referred)]


def _describe_class(cls: type, again) -> Any:
  if _is_library(getattr(sys.modules.get(cls.__module__), "__file__", None) or ""):
    return ["name", f"{cls.__module__}.{cls.__qualname__}"]
  if cls.__module__ == "builtins":
    return ["name", cls.__qualname__]
  kept = {
    name: getattr(value, "__func__", getattr(value, "fget", value))
    for name, value in vars(cls).items()
    if isinstance(value, (types.FunctionType, classmethod, staticmethod, property))
  }
  return ["class", cls.__qualname__, again(kept), again(cls.__bases__)]

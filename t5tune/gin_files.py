"""Gin files as text: finds them, parses them and puts them in order.

Stands before the whole direction of data: a command's files and flags become
statements here, `config.py` resolves and checks them.
"""

import dataclasses
import os
import pathlib
import re
import tokenize
from collections.abc import Iterator, Sequence
from typing import Any

from gin import config_parser
from t5tune.errors import UserError, did_you_mean

REQUIRED = "gin.REQUIRED"


@dataclasses.dataclass(frozen=True)
class Macro:
  """`%NAME`."""

  name: str


@dataclasses.dataclass(frozen=True)
class Reference:
  """`@scope/module.name` or, evaluated, `@scope/module.name()`.

  `configurable` is a `gin_names.Configurable` once the selector is resolved.
  """

  scope: str
  selector: str
  evaluate: bool
  configurable: Any = None


@dataclasses.dataclass(frozen=True)
class Origin:
  """Where a binding was written.

  Attributes:
    place: "gin/dialogsum.gin:12" or "--gin.TRAIN_STEPS=300".
    flag: the text given on the command line, None for a file.
  """

  place: str
  flag: str | None = None

  def short(self) -> str:
    return self.place if self.flag is None else self.place.split("=", 1)[0]


@dataclasses.dataclass(frozen=True)
class Statement:
  """`scope/selector.arg = value`; a macro's definition has `arg` "" ."""

  scope: str
  selector: str
  arg: str
  value: Any
  origin: Origin


@dataclasses.dataclass(frozen=True)
class GinFile:
  """One parsed file; `includes` are paths already found."""

  path: pathlib.Path
  imports: tuple[tuple[config_parser.ImportStatement, Origin], ...]
  includes: tuple[pathlib.Path, ...]
  statements: tuple[Statement, ...]


class _Delegate(config_parser.ParserDelegate):
  """Keeps references and macros as names: no configurable is looked up yet."""

  def configurable_reference(self, scoped_configurable_name, evaluate):
    scope, _, selector = scoped_configurable_name.rpartition("/")
    return Reference(scope, selector, evaluate)

  def macro(self, macro_name):
    return Macro(macro_name)


def gin_folder() -> pathlib.Path:
  """Returns the folder of our recipes: inside a wheel's package, else beside it."""
  package = pathlib.Path(__file__).resolve().parent
  inside = package / "gin"
  return inside if inside.is_dir() else package.parent / "gin"


def find_gin_file(name: str, search: Sequence[os.PathLike | str] = ()) -> pathlib.Path:
  """Finds a gin file as given, then in each folder of `search`, then in ours.

  Args:
    name: an absolute path, or one relative to the working directory or a folder.
    search: folders looked through before our own `gin/`.

  Returns:
    The path of the file.

  Raises:
    UserError: no such file; names the nearest recipes.
  """
  folders = [pathlib.Path(), *map(pathlib.Path, search), gin_folder()]
  for folder in folders:
    if (folder / name).is_file():  # `folder / name` is `name` where that is absolute.
      return folder / name
  # Recipes, and what stands where the file was looked for.
  known = [p.relative_to(gin_folder()).as_posix() for p in gin_folder().rglob("*.gin")]
  for folder in folders:
    beside = (folder / name).parent.glob("*.gin")
    known += [(pathlib.Path(name).parent / p.name).as_posix() for p in beside]
  near = did_you_mean(name, set(known))
  near = near or f" Recipes at hand: {', '.join(sorted(set(known))) or 'none'}."
  places = ", ".join(["the working directory", *map(str, folders[1:])])
  raise UserError(f"There is no gin file {name!r} in {places}.{near}")


def shown(path: pathlib.Path) -> str:
  """Returns the path as messages name it: relative to where the user stands."""
  for base in (pathlib.Path().resolve(), gin_folder().resolve()):
    if path.resolve().is_relative_to(base):
      return path.resolve().relative_to(base).as_posix()
  return str(path)


def _statements(text: str, name: str) -> Iterator[Any]:
  """Yields gin's own parsed statements, turning its errors into a `UserError`."""
  line, content, problem = 0, "", ""
  try:
    parser = config_parser.ConfigParser(text, _Delegate())
    while (statement := parser.parse_statement()) is not None:
      yield statement
    return
  except SyntaxError as e:
    line, content, problem = e.lineno or 0, e.text or "", e.msg
  except tokenize.TokenError as e:
    problem, (line, _) = e.args
  except (ValueError, StopIteration) as e:
    problem = str(e) or "the statement ends too early"
  lines = text.splitlines()
  if not content and 0 < line <= len(lines):
    content = lines[line - 1]
  hint = ""
  if word := re.search(r"Failed to parse token '(\w+)'", problem):
    problem = f"{word[1]} is not a value"
    python = {"true": "True", "false": "False", "none": "None", "null": "None"}
    hint = f" Write {python.get(word[1].lower(), repr(word[1]))}."
    if content.lstrip().startswith(word[1]):
      hint = " Is a bracket open on a line above?"
  elif content.count("'") % 2 or content.count('"') % 2:
    hint = " Is the quote closed?"
  problem = problem.splitlines()[0].rstrip(".")
  where = f"{name}:{line}" if line else name
  raise UserError(f"{where}: {problem}.{hint}\n  {content.strip()}")


def read(path: pathlib.Path, search: Sequence[os.PathLike | str] = ()) -> GinFile:
  """Parses one gin file without importing anything it names.

  Args:
    path: the file.
    search: folders for its includes, after the file's own.

  Returns:
    Its statements with their origins.

  Raises:
    UserError: a syntax error, or an include that is not there.
  """
  name = shown(path)
  try:
    text = path.read_text(encoding="utf-8")
  except (OSError, UnicodeDecodeError) as e:
    raise UserError(f"{name}: cannot be read as a text file ({e}).") from e
  imports, includes, statements = [], [], []
  for statement in _statements(text, name):
    origin = Origin(f"{name}:{statement.location.line_num}")
    if isinstance(statement, config_parser.ImportStatement):
      imports.append((statement, origin))
    elif isinstance(statement, config_parser.IncludeStatement):
      beside = path.parent / statement.filename
      try:
        found = (
          beside if beside.is_file() else find_gin_file(statement.filename, search)
        )
      except UserError as e:
        raise UserError(f"{origin.place}: {e}") from e
      includes.append(found)
    elif isinstance(statement, config_parser.BindingStatement):
      scope, selector, arg, value, _ = statement
      if not arg:  # A macro's name includes its scope.
        selector, scope = f"{scope}/{selector}" if scope else selector, ""
      statements.append(Statement(scope, selector, arg, value, origin))
  return GinFile(path, tuple(imports), tuple(includes), tuple(statements))


def in_order(
  gin_files: Sequence[str], search: Sequence[os.PathLike | str] = ()
) -> list[GinFile]:
  """Reads the files and all they include, the strongest last.

  An included file is weaker than its includer wherever the include statement
  stands, and a file given later is stronger than one given earlier. A file that
  several include is weaker than all of them, so it is placed once, at its first.

  Args:
    gin_files: names as given on the command line.
    search: folders looked through after the working directory.

  Returns:
    The parsed files; where two bind one name, the later holds.

  Raises:
    UserError: a file is missing, includes itself or does not parse.
  """
  placed: dict[pathlib.Path, GinFile] = {}

  def place(path: pathlib.Path, above: tuple[pathlib.Path, ...]) -> None:
    key = path.resolve()
    if key in above:
      loop = [*above[above.index(key) :], key]
      raise UserError(
        "Gin files include each other in a circle: "
        f"{' -> '.join(shown(p) for p in loop)}. Remove one of these includes."
      )
    if key in placed:
      return
    file = read(path, search)
    for included in file.includes:
      place(included, (*above, key))
    placed[key] = file

  for name in gin_files:
    path = find_gin_file(name, search)
    place(path, ())
    # Naming a file that an earlier one included makes it the stronger.
    placed[path.resolve()] = placed.pop(path.resolve())
  return list(placed.values())


def from_flag(name: str, raw: str) -> Statement:
  """Parses `--gin.NAME=value` or `--gin.module.Class.parameter=value`."""
  origin = Origin(f"--gin.{name}={raw}", raw)
  scope, _, rest = name.rpartition("/")
  selector, _, arg = rest.rpartition(".")
  if not re.fullmatch(r"(\w+/)*\w+(\.\w+)*", name):
    raise UserError(
      f"{origin.place}: {name!r} is not a name gin can bind. Write --gin.NAME=value."
    )
  value = _flag_value(raw.strip(), origin)
  if not selector:
    return Statement("", name, "", value, origin)
  return Statement(scope, selector, arg, value, origin)


def _flag_value(raw: str, origin: Origin) -> Any:
  """Parses a value whose inner quotes the shell may have eaten."""
  try:
    (statement,) = _statements(f"X = {raw}", "")
    return statement.value
  except (UserError, ValueError):  # ValueError: not exactly one statement.
    pass
  if raw.startswith(("@", "%")):
    raise UserError(
      f"{origin.place}: {raw!r} is neither a macro (%NAME) nor a reference (@name())."
    )
  brackets = {"[": "]", "(": ")", "{": "}"}
  if raw[:1] not in brackets or not raw.endswith(brackets[raw[0]]):
    return raw
  bare = raw.replace("{{", "").replace("}}", "")
  if raw[0] == "{" and re.search(r"\{[^{}:,]+\}", bare):
    return raw  # a text with {column} in it, which is no dict
  items = _split(raw[1:-1], ",")
  if raw[0] == "{":
    pairs = [_split(item, ":") for item in items]
    if any(len(pair) != 2 for pair in pairs):
      raise UserError(f"{origin.place}: write a dict as {{name: value, name: value}}.")
    return {_flag_value(k, origin): _flag_value(v, origin) for k, v in pairs}
  values = [_flag_value(item, origin) for item in items]
  return values if raw[0] == "[" else tuple(values)


def _split(text: str, separator: str) -> list[str]:
  """Splits at separators outside brackets and quotes; a trailing one is allowed."""
  parts, depth, quote = [""], 0, ""
  for character in text:
    if character == separator and not depth and not quote:
      parts.append("")
      continue
    if quote:
      quote = "" if character == quote else quote
    elif character in "'\"":
      quote = character
    depth += (character in "[({") - (character in "])}")
    parts[-1] += character
  parts = [part.strip() for part in parts]
  return parts if parts[-1] else parts[:-1]

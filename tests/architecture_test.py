"""The house rules of docs/architecture.md, read from the imports."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
BASE = {
  *("errors", "config", "gin_files", "gin_names", "gin_checks", "gin_text"),
  *("command_line", "partitioning", "accelerators", "host_memory", "native"),
  *("processes", "process_places", "process_links"),
}
COMMANDS = {
  "train",
  "eval",
  "convert",
  "prepare",
  "inspect_tasks",
  "plan",
  "score",
  "infer",
  "report",
  "study",
  "interpolate",
  "bench",
}
_BELOW_RUN = {"evaluation", "weights", "training", "models", "data", "base"}
# Each layer with what it may import; `run` joins the configurations of all.
MAY_IMPORT = {
  "base": {"base"},
  "models": {"models", "base"},
  "data": {"data", "base"},
  "training": {"training", "models", "base"},
  "weights": {"weights", "training", "models", "base"},
  "evaluation": {"evaluation", "weights", "training", "models", "data", "base"},
  "generation": _BELOW_RUN,
  "reporting": {"reporting", "evaluation", "training", "data", "base"},
  "package": {"generation"},  # inside `load` alone
  "run": _BELOW_RUN,
  "planning": {"planning", "training", "models", "data", "base"},
  "benchmarking": {
    *("benchmarking", "planning", "evaluation", "training", "models", "data", "base")
  },
  "job": {"run", "planning", *_BELOW_RUN},
  "fit": {"job_text", "job", *_BELOW_RUN},
  "job_text": {"job", "run", "planning", "evaluation", "data", "base"},
  "commands": {
    "fit",
    "job_text",
    "job",
    "run",
    "planning",
    "generation",
    "reporting",
    "benchmarking",
    *_BELOW_RUN,
  },
  "tasks": {"tasks", "data", "evaluation", "base"},
}
# These never import tensorflow, not even inside a function: it costs seconds and
# gigabytes in the process that trains. In `data` it is the side that feeds.
DEFINITION = {"tensorflow", "tensorflow_text", "tensorflow_datasets", "seqio"}
FREE_OF_TENSORFLOW = {
  *(
    "t5tune.models",
    "t5tune.training",
    "t5tune.run",
    "t5tune.benchmarking",
    *(f"t5tune.{m}" for m in BASE),
  ),
  *("t5tune.data.token_store", "t5tune.data.feed", "t5tune.data.packing"),
  *("t5tune.data.index", "t5tune.data.fingerprint", "t5tune.data.build"),
  *("t5tune.data.escape", "t5tune.data.preflight", "t5tune.data.user_files"),
  *("t5tune.data.example_order", "t5tune.data.mixture_examples"),
  *("t5tune.data.length_buckets", "t5tune.data.row_lengths"),
  *("t5tune.data.feed_summary", "t5tune.data.mixture_table"),
  *("t5tune.data.store_manifest", "t5tune.data.file_pool"),
}
MAX_LINES = 380


def module_name(path: pathlib.Path) -> str:
  parts = path.relative_to(ROOT).with_suffix("").parts
  parts = parts[:-1] if parts[-1] == "__init__" else parts
  return ".".join(("t5tune", *parts) if parts[0] == "tasks" else parts)


SOURCES = {
  module_name(path): path
  for folder in ("t5tune", "tasks")
  for path in sorted((ROOT / folder).rglob("*.py"))
}


def layer(module: str) -> str:
  """Returns the layer of a module of ours; a new one must be given its place."""
  parts = module.split(".")
  name = parts[1] if len(parts) > 1 else "base"
  if name in COMMANDS:
    return "commands"
  if module == "t5tune":
    return "package"
  if name in BASE:
    return "base"
  assert name in MAY_IMPORT, f"{module} belongs to no layer of docs/architecture.md"
  return name


def imports(module: str, late: bool = True) -> set[str]:
  """Returns the modules that a source imports, inside functions too if `late`."""
  found, nodes = set(), [ast.parse(SOURCES[module].read_text())]
  while nodes:
    node = nodes.pop()
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{module}: write imports in full"
      names = {f"{node.module}.{alias.name}" for alias in node.names}
      found |= {name if name in SOURCES else node.module for name in names}
    elif late or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
      nodes += ast.iter_child_nodes(node)
  return found


@pytest.mark.parametrize("module", SOURCES)
def test_layers_import_only_what_is_below(module):
  allowed = MAY_IMPORT[layer(module)]
  ours = {m for m in imports(module) if m.split(".")[0] == "t5tune" and m != "t5tune"}
  wrong = {m for m in ours if layer(m) not in allowed}
  assert not wrong, f"{module} ({layer(module)}) imports {wrong}"


def reached(module: str) -> dict[str, str]:
  """Returns all that importing `module` imports, each with its importer."""
  seen, queue = {}, [module]
  while queue:
    current = queue.pop()
    for name in imports(current, late=False) - seen.keys():
      seen[name] = current
      parents = [name.rsplit(".", i)[0] for i in range(name.count(".") + 1)]
      queue += [parent for parent in parents if parent in SOURCES]
  return seen


@pytest.mark.parametrize(
  "module",
  [m for m in SOURCES if any(f"{m}.".startswith(f"{p}.") for p in FREE_OF_TENSORFLOW)],
)
def test_no_tensorflow_where_training_happens(module):
  own = {m for m in imports(module) if m.split(".")[0] in DEFINITION}
  assert not own
  slow = {m: by for m, by in reached(module).items() if m.split(".")[0] in DEFINITION}
  assert not slow


@pytest.mark.parametrize("module", sorted(FREE_OF_TENSORFLOW))
def test_tables_name_modules_that_exist(module):
  # A renamed module would otherwise leave its rule without effect.
  assert module in SOURCES


def test_every_module_imports():
  # In one process of its own: tensorflow takes seconds to load.
  lines = [
    "import importlib, sys",
    f"for m in {sorted(SOURCES)!r}: importlib.import_module(m)",
  ]
  done = subprocess.run(
    [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, cwd=ROOT
  )
  assert done.returncode == 0, done.stderr[-2000:]


def test_gin_folder_is_no_package():
  # It would shadow gin-config in a checkout.
  assert not list((ROOT / "gin").rglob("*.py"))


@pytest.mark.parametrize("module", SOURCES)
def test_files_stay_short(module):
  lines = len(SOURCES[module].read_text().splitlines())
  assert lines <= MAX_LINES, f"{SOURCES[module]} has {lines} lines"

"""Fingerprints change with all that makes tokens, and with nothing else."""

import importlib.util
import itertools
import os
import subprocess
import sys
import textwrap

import pytest
from fingerprint_cases import CHANGES, HEAD, variants

from t5tune.data import fingerprint


@pytest.fixture
def load(tmp_path, monkeypatch):
  """Loads a source as the module `user_code`, each time from a folder of its own."""
  numbers = itertools.count()

  def load(source, **others):
    folder = tmp_path / f"{next(numbers)}" / ("deep" * len(others))
    folder.mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    for name, text in {**others, "user_code": source}.items():
      file = folder / f"{name}.py"
      file.write_text(text)
      spec = importlib.util.spec_from_file_location(name, file)
      module = importlib.util.module_from_spec(spec)
      monkeypatch.setitem(sys.modules, name, module)
      spec.loader.exec_module(module)
    return module

  return load


@pytest.mark.parametrize("case", CHANGES.values(), ids=CHANGES)
def test_a_change_three_calls_away_shows(load, case):
  before, after = variants(case)
  assert before != after
  first = fingerprint.digest(load(before).pipeline)
  assert fingerprint.digest(load(before).pipeline) == first
  assert fingerprint.digest(load(after).pipeline) != first


PLAIN = """
import re

LIMIT = 3


class Cleaner:
  '''Cleans.'''

  def __call__(self, x):
    '''Cleans x.'''
    kept = [y for y in x if y]
    return helper(kept[:LIMIT])


def helper(x):
  return re.sub("a", "b", x)


pipeline = Cleaner()
"""
SAME = {
  "comment": PLAIN.replace("return helper", "# Why.\n    return helper"),
  "docstring": PLAIN.replace("'''Cleans x.'''", "'''Cleans, or so it says.'''"),
  "no docstring": PLAIN.replace("'''Cleans x.'''\n", "\n"),
  "new docstring": PLAIN.replace("  return re.", "  '''New.'''\n  return re."),
  "docstring of a class": PLAIN.replace("'''Cleans.'''", "'''Tidies.'''"),
  "lines moved": "\n\n\n" + PLAIN,
  "local variable": PLAIN.replace("kept", "left"),
  "an unused function": PLAIN + "\ndef unused():\n  pass\n",
}


@pytest.mark.parametrize("source", SAME.values(), ids=SAME)
def test_what_makes_no_difference_does_not_show(load, source):
  assert source != PLAIN
  expected = fingerprint.digest(load(PLAIN).pipeline)
  assert fingerprint.digest(load(source).pipeline) == expected


IMPORTS = {
  "module": "import other\ndef pipeline(x):\n  return other.helper(x)",
  "name": "from other import helper\ndef pipeline(x):\n  return helper(x)",
  "module of a module": "import between\ndef pipeline(x):\n"
  "  return between.other.helper(x)",
  "inside": "def pipeline(x):\n  import other\n  return other.helper(x)",
  "name inside": "def pipeline(x):\n  from other import helper as h\n  return h(x)",
  "inside, used in a comprehension": "def pipeline(x):\n  import other\n"
  "  return [other.helper(y) for y in x]",
  "constant of a module": "import other\ndef pipeline(x):\n  return x[:other.LIMIT]",
}


@pytest.mark.parametrize("source", IMPORTS.values(), ids=IMPORTS)
def test_other_modules_count_however_they_are_imported(load, source):
  def digest(text, limit):
    other = f"LIMIT = {limit}\ndef helper(x):\n  return x + '{text}'\n"
    between = "import other\n"
    return fingerprint.digest(load(source, other=other, between=between).pipeline)

  assert digest("a", 0) == digest("a", 0)
  assert digest("a", 0) != digest("b", False)


def test_arrays_count_by_content(load):
  source = (
    "import numpy as np\nA = np.array([1, {}])\ndef pipeline(x):\n  return x + A\n"
  )
  digests = {fingerprint.digest(load(source.format(n)).pipeline) for n in (2, 3)}
  assert len(digests) == 2


def test_recursion_ends(load):
  source = """
  LOOP = [1]
  LOOP.append(LOOP)
  def even(x):
    return x == 0 or odd(x - 1)
  def odd(x):
    return x != 0 and even(x - 1)
  FUNCTIONS = {even, odd}
  def unfilled():
    if False:
      later = 1
    return lambda: later
  def pipeline(x):
    return even(x), LOOP, FUNCTIONS, CLOSURE, sys
  """
  source = "import sys\n" + textwrap.dedent(source) + "CLOSURE = unfilled()\n"
  assert fingerprint.digest(load(source).pipeline)


def test_caches_and_locks_of_libraries_do_not_count(load):
  source = """
  import functools, logging, threading
  LOG = logging.getLogger("fingerprint_test")
  LOCK = threading.Lock()
  @functools.lru_cache(maxsize=8)
  def square(x):
    with LOCK:
      LOG.debug("squares")
      return x * x
  def pipeline(x):
    return square(x)
  """
  module = load(textwrap.dedent(source))
  before = fingerprint.digest(module.pipeline)
  module.pipeline(3)
  assert module.square.cache_info().currsize == 1
  assert fingerprint.digest(module.pipeline) == before


def test_every_process_gives_the_same(tmp_path):
  # Anything by address, by the order of a set or by the place of a file would differ.
  source = (
    HEAD
    + "import types, uuid\n"
    + textwrap.dedent("""
  def low(x):
    return x.lower()
  def bare(x):
    return x.strip() in {"one", "two", "three", "four"}
  STEPS = {low, bare, len, str.upper}
  NAMES = frozenset(["red", "green", "blue"])
  BY_STEP = {low: 1, bare: (2, re.compile("x"))}
  class Kind(enum.Enum):
    A = 1
    B = 2
  @dataclasses.dataclass(frozen=True)
  class Setting:
    kinds: set
    place: object = dataclasses.field(default_factory=object)
  SETTING = Setting({Kind.A, Kind.B, "c"})
  # As tensorflow names its tables.
  TABLE = types.SimpleNamespace(_name=uuid.uuid4().hex, held=object())
  def pipeline(x):
    return [s(x) for s in STEPS], NAMES, BY_STEP, SETTING, TABLE, os.path.join
  """)
  )
  code = (
    "import user_code\n"
    "from t5tune.data import fingerprint\n"
    "print(fingerprint.digest(user_code.pipeline, {'b': 1, 'a': [2.5, None]}))\n"
  )
  digests = []
  for seed in ("1", "2", "2"):  # the last reads the .pyc that the second wrote
    folder = tmp_path / seed
    folder.mkdir(exist_ok=True)
    (folder / "user_code.py").write_text(source)
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
      [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    digests.append(done.stdout)
  assert len(set(digests)) == 1


def test_installed_code_counts_only_where_it_holds_tasks(load, tmp_path, monkeypatch):
  # As if the folders of this test were site-packages.
  monkeypatch.setattr(fingerprint, "_LIBRARIES", (str(tmp_path),))
  monkeypatch.setattr(fingerprint, "_own", set(fingerprint._own))
  sources = [f"def pipeline(x):\n  return x + {n}\n" for n in (1, 2)]
  modules = [load(s) for s in sources]
  assert len({fingerprint.digest(m.pipeline) for m in modules}) == 1
  digests, files = set(), []
  for source in sources:
    module = load(source)
    fingerprint.count_as_own("user_code")
    digests.add(fingerprint.digest(module.pipeline))
    files.append(module.__file__)
    assert module.__file__ in fingerprint.own_code_files()
  assert len(digests) == 2


def test_own_code_is_what_no_package_manager_installed(load):
  module = load("x = 1\n")
  files = fingerprint.own_code_files()
  assert module.__file__ in files
  assert fingerprint.__file__ in files
  assert pytest.__file__ not in files
  assert textwrap.__file__ not in files

"""The command `inspect_tasks` run on the tiny project, and its output read."""

import pytest
from tiny_project import prepare

from t5tune import inspect_tasks
from t5tune.data import build

RECIPE = ["--gin_file=tiny.gin", "--data_dir=data", "--store_dir=stores"]


@pytest.fixture(name="inspect")
def inspecting(workplace, capsys, monkeypatch):
  """Runs the command on the project; returns the lines that it printed.

  Stores are built before, in this process, which saves starting another.
  """

  def none(*_, **__):
    raise AssertionError("a process was started")

  monkeypatch.setattr(build, "subprocess", type("", (), {"run": none}))

  def inspect(*arguments, **bindings):
    for name in (a for a in arguments if not a.startswith("-")):
      prepare(MIXTURE=name, **bindings)
    capsys.readouterr()
    given = [f"--gin.{name}={value!r}" for name, value in bindings.items()]
    assert inspect_tasks.main([*arguments, *RECIPE, *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    return [line.rstrip() for line in lines]

  return inspect


def block(lines, title):
  """Returns the lines under a title, up to the next empty one."""
  start = next(i for i, line in enumerate(lines) if line.startswith(title))
  end = next((i for i, line in enumerate(lines[start:]) if not line), len(lines))
  return lines[start + 1 : start + end]


def cells(lines, name):
  """Returns the words of the line that begins with a name."""
  return next(line.split() for line in lines if line.split()[:1] == [name])

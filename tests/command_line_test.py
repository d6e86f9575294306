"""Tests of t5tune.command_line: flags, gin overrides and how a command ends."""

import pathlib
import re
import subprocess
import sys

import pytest

from t5tune import command_line, gin_files
from t5tune.errors import UserError

EXAMPLES = ["python -m t5tune.train --gin_file=demo.gin --workdir=/tmp/run"]


def make(**options) -> command_line.CommandParser:
  return command_line.parser("train", "Trains.", EXAMPLES, **options)


def test_gin_flags_in_both_forms_and_in_order():
  args = make().parse_args(
    ["--gin.A=1", "--gin_file=a.gin", "--gin.B", "-2", "--gin_file", "b.gin"]
    + ["--gin.A=x=y", "--gin.C="]
  )
  assert args.overrides == [("A", "1"), ("B", "-2"), ("A", "x=y"), ("C", "")]
  assert args.gin_file == ["a.gin", "b.gin"]


def test_parsers_do_not_share_their_lists():
  make().parse_args(["--gin_file=a.gin"])
  assert make().parse_args([]).gin_file == []


def test_home_is_expanded_and_cache_is_the_default(monkeypatch, tmp_path):
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
  args = make().parse_args(["--data_dir=~/data"])
  assert args.data_dir == tmp_path / "data"
  assert args.store_dir == tmp_path / ".cache" / "t5tune"
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
  assert make().parse_args([]).store_dir == tmp_path / "c" / "t5tune"


def test_commands_add_their_own_flags():
  parser = make(flags=("workdir",), required=("workdir",))
  parser.add_argument("--format", choices=("html", "text"))
  args = parser.parse_args(["--workdir=w", "--format=text"])
  assert (args.workdir, args.format) == (pathlib.Path("w"), "text")
  assert args.overrides == []
  assert not hasattr(args, "data_dir")


@pytest.mark.parametrize(
  "args, words",
  [
    (["--data-dir=x"], "Did you mean '--data_dir'"),
    (["--gin_fle=x"], "Did you mean '--gin_file'"),
    (["--TRAIN_STEPS=3"], "Did you mean '--gin.TRAIN_STEPS=3'"),
    (["--work=x"], "unknown flag --work"),  # No abbreviations.
    (["demo.gin"], "unexpected argument 'demo.gin'"),
    (["--gin.STEPS"], "--gin.STEPS has no value"),
    (["--gin.STEPS", "--workdir=x"], "--gin.STEPS has no value"),
    (["--workdir"], "--workdir"),
  ],
)
def test_mistakes(args, words):
  with pytest.raises(UserError) as caught:
    make().parse_args(args)
  assert words in str(caught.value)


def test_missing_required_flag_is_named():
  with pytest.raises(UserError, match="--workdir.*--help"):
    make(required=("workdir",)).parse_args([])


def test_gin_override_without_gin_files_is_refused():
  with pytest.raises(UserError, match="reads no gin files"):
    make(flags=("workdir",)).parse_args(["--gin.X=1"])


def test_help_shows_examples(capsys):
  with pytest.raises(SystemExit) as caught:
    make().parse_args(["--help"])
  shown = capsys.readouterr().out
  assert caught.value.code == 0
  assert f"  {EXAMPLES[0]}\n" in shown
  assert "python -m t5tune.train" in shown


@pytest.mark.parametrize(
  "body, code, error",
  [
    ("return None", 0, ""),
    ("return 1", 1, ""),
    (
      "raise UserError('mixtre: no such mixture')",
      2,
      "error: mixtre: no such mixture\n",
    ),
    ("raise KeyboardInterrupt", 130, "interrupted\n"),
  ],
)
def test_main_exits(body, code, error, capsys, monkeypatch):
  monkeypatch.setattr(command_line.signal, "signal", lambda *_: None)  # of this process
  scope = {"UserError": UserError}
  exec(f"def command(args):\n  {body}", scope)
  with pytest.raises(SystemExit) as caught:
    command_line.main(scope["command"])
  assert (caught.value.code or 0) == code
  assert capsys.readouterr().err == error


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_at_the_very_end_changes_no_status(number):
  code = (
    "import atexit, os, signal\n"
    "from t5tune import command_line\n"
    f"atexit.register(os.kill, os.getpid(), signal.{number})\n"
    "command_line.main(lambda arguments: command_line.SAVED_NOT_FINISHED)\n"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert (done.returncode, done.stderr) == (75, "")


def test_real_bugs_keep_their_traceback():
  def command(args):
    raise ZeroDivisionError

  with pytest.raises(ZeroDivisionError):
    command_line.main(command)


def commands() -> list[str]:
  """Returns the modules of t5tune that are run with `python -m`."""
  package = pathlib.Path(command_line.__file__).parent
  return sorted(
    path.stem
    for path in package.glob("*.py")
    if "command_line.main(" in path.read_text()
  )


@pytest.fixture(scope="module", params=commands())
def help_of(request) -> tuple[str, str, set[str]]:
  """A command, what its `--help` prints and the packages it imported for that."""
  done = subprocess.run(
    [sys.executable, "-X", "importtime", "-m", f"t5tune.{request.param}", "--help"],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  imported = re.findall(r"\|\s+([\w.]+)$", done.stderr, re.MULTILINE)
  return request.param, done.stdout, {name.split(".")[0] for name in imported}


def test_help_imports_nothing_slow(help_of):
  _, _, imported = help_of
  assert "argparse" in imported  # The listing was read at all.
  slow = {"jax", "flax", "gin", "numpy", "tensorflow", "seqio", "grain", "orbax"}
  assert not imported & slow


def test_help_gives_three_examples_that_hold(help_of):
  command, text, _ = help_of
  options, examples = text.split("examples:")
  lines = [line for line in examples.splitlines() if f"t5tune.{command}" in line]
  assert len(lines) >= 3
  for flag in re.findall(r"(--\w+)[= ]", " ".join(lines)):
    assert flag == "--gin" or flag in options
  for name in re.findall(r"--gin_file[= ](\S+)", " ".join(lines)):
    if "/config.gin" not in name:  # A saved run's own.
      gin_files.find_gin_file(name)

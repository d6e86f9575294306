"""The flags all commands share, and how a command ends on a mistake.

Stands before the whole direction of data. Imports the standard library only, so
that `--help` answers at once.
"""

import argparse
import os
import pathlib
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from t5tune.errors import UserError, did_you_mean

# Exit statuses. 0 is for what is finished alone, so that schedulers requeue the rest.
USER_ERROR = 2  # a mistake, told in a line; starting again changes nothing
SAVED_NOT_FINISHED = 75  # EX_TEMPFAIL: stopped and saved; the same command goes on
BROKEN_PIPE = 141  # whoever read the output went away before its end, as `| head` does
ABORTED = 130  # by Ctrl-C, of a training by a second one: what was not saved is lost

_GIN = "--gin."
_SHARED: dict[str, dict[str, Any]] = {
  "gin_file": {
    "action": "append",
    "default": [],
    "metavar": "FILE",
    "help": "a recipe, found in the working directory or among t5tune's own; "
    "may be given several times, a later file overrides an earlier one",
  },
  "data_dir": {
    "type": lambda text: pathlib.Path(text).expanduser(),
    "metavar": "DIR",
    "help": "folder with the raw data sets; it is only read",
  },
  "workdir": {
    "type": lambda text: pathlib.Path(text).expanduser(),
    "metavar": "DIR",
    "help": "folder of the run: configuration, checkpoints, metrics, predictions",
  },
  "store_dir": {
    "type": lambda text: pathlib.Path(text).expanduser(),
    "metavar": "DIR",
    "help": "folder for tokens and compiled programs kept between runs (default:"
    " %(default)s)",
  },
  "coordinator_address": {
    "metavar": "HOST:PORT",
    "help": "of several processes: where the first one meets the others; SLURM's and"
    " TPU slices' are found without a flag",
  },
  "num_processes": {"metavar": "N", "help": "of several processes: how many there are"},
  "process_id": {"metavar": "I", "help": "of several processes: which this is, from 0"},
}


def default_store_dir() -> pathlib.Path:
  """Returns t5tune's folder in the user's cache directory."""
  cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  return pathlib.Path(cache).expanduser() / "t5tune"


class CommandParser(argparse.ArgumentParser):
  """An argparse parser that knows `--gin.NAME=value` and raises `UserError`."""

  def parse_args(self, args=None, namespace=None):
    """Parses a command line.

    Args:
      args: the arguments, `sys.argv[1:]` when None.
      namespace: as in argparse.

    Returns:
      The flags; `overrides` holds the (name, text) of each `--gin.name=text`.

    Raises:
      UserError: an unknown flag or argument, or one without its value.
    """
    rest, overrides = _split_gin(sys.argv[1:] if args is None else list(args))
    if overrides and "--gin_file" not in self._option_string_actions:
      raise UserError(f"{self.prog} reads no gin files, so it takes no {_GIN}NAME.")
    parsed, unknown = self.parse_known_args(rest, namespace)
    if unknown:
      raise UserError(self._unknown(unknown[0]))
    parsed.overrides = overrides
    return parsed

  def error(self, message: str) -> NoReturn:
    raise UserError(f"{message}. See {self.prog} --help.")

  def _unknown(self, argument: str) -> str:
    flag, _, value = argument.partition("=")
    if not flag.startswith("-"):
      return (
        f"unexpected argument {argument!r}: write --flag=value, with quotes around "
        f"a value that has spaces. See {self.prog} --help."
      )
    if flag.lstrip("-").isupper() and "--gin_file" in self._option_string_actions:
      near = f" Did you mean '{_GIN}{flag.lstrip('-')}={value or '...'}'?"
    else:
      near = did_you_mean(flag, self._option_string_actions)
    return f"unknown flag {flag}.{near} See {self.prog} --help."


def _split_gin(args: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
  """Separates `--gin.NAME=value` and `--gin.NAME value` from the other arguments."""
  rest, overrides = [], []
  queue = iter(args)
  for arg in queue:
    if not arg.startswith(_GIN):
      rest.append(arg)
      continue
    name, equals, value = arg.removeprefix(_GIN).partition("=")
    if not equals:
      value = next(queue, "--")
      if value.startswith("--"):
        raise UserError(f"{arg} has no value: write {arg}=VALUE.")
    overrides.append((name, value))
  return rest, overrides


def parser(
  command: str,
  description: str,
  examples: Sequence[str],
  flags: Sequence[str] = tuple(_SHARED),
  required: Sequence[str] = (),
) -> CommandParser:
  """Returns a command's parser with the shared flags; the command adds its own.

  Args:
    command: the module, for example "train".
    description: what the command does, one or two sentences.
    examples: whole command lines that work, shown under `--help`.
    flags: which of the shared ones it takes.
    required: those of `flags` that must be given.

  Returns:
    The parser; `parse_args` gives `overrides` beside the flags.
  """
  lines = ["examples:", *(f"  {example}" for example in examples)]
  if "gin_file" in flags:
    lines += [
      "",
      f"{_GIN}NAME=VALUE sets NAME over all gin files, any number of times.",
    ]
  made = CommandParser(
    prog=f"python -m t5tune.{command}",
    description=description,
    epilog="\n".join(lines),
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  for name in flags:
    options = dict(_SHARED[name], required=name in required)
    if name == "store_dir":
      options["default"] = default_store_dir()
    made.add_argument(f"--{name}", **options)
  return made


def main(command: Callable[[Sequence[str]], int | None]) -> NoReturn:
  """Runs a command and exits with one of the statuses above.

  Args:
    command: takes the arguments after the command's name; returns the status.
  """
  try:
    status = command(sys.argv[1:])
    sys.stdout.flush()
    for number in (signal.SIGINT, signal.SIGTERM):
      signal.signal(number, signal.SIG_IGN)  # what is done is done: keep its status
    sys.exit(status)
  except UserError as e:
    print(f"error: {e}", file=sys.stderr)
    sys.exit(USER_ERROR)
  except BrokenPipeError:  # whoever read the output has gone
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(BROKEN_PIPE)
  except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    sys.exit(ABORTED)

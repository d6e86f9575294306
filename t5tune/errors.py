"""The one exception a user sees: a message that says where and what to do."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
  """A mistake the user can mend; commands print it without a traceback.

  The message names the file, line, field or gin binding at fault and the fix.
  Commands exit with status 2 on it and leave the work directory as it was.
  """


def did_you_mean(name: str, known: Iterable[str], count: int = 3) -> str:
  """Returns " Did you mean 'a' or 'b'?" for the names nearest to `name`.

  Args:
    name: the name that was not found.
    known: the names that exist.
    count: how many suggestions to give at most.

  Returns:
    A sentence with a leading space, or "" when nothing is near.
  """
  near = difflib.get_close_matches(name, list(known), n=count, cutoff=0.6)
  if not near:
    return ""
  return " Did you mean " + " or ".join(repr(n) for n in near) + "?"

"""Original files: read and verified before a builder makes rows of them."""

import hashlib

from etils import epath

from t5tune.errors import UserError


def read_lines(path: epath.PathLike) -> list[str]:
  """Reads a UTF-8 file's lines, broken at line feeds only.

  Python's `splitlines` also breaks at characters such as U+2028, which one question
  of GSM8K holds.

  Args:
    path: the file.

  Returns:
    Its lines without the line feeds.
  """
  lines = epath.Path(path).read_bytes().decode("utf-8").split("\n")
  return lines[:-1] if lines[-1] == "" else lines


def check_git_blob(path: epath.PathLike, blob_id: str) -> None:
  """Checks that a file is the one that a git repository holds.

  Args:
    path: the file.
    blob_id: SHA-1 that `git hash-object` gives for the file.

  Raises:
    UserError: it is another file.
  """
  content = epath.Path(path).read_bytes()
  # https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
  found = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
  if found != blob_id:
    raise UserError(
      f"{path} is not the file that its authors published: its git blob id is {found}"
      f" instead of {blob_id}. Remove it and run the command again."
    )

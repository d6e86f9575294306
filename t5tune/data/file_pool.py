"""A bounded pool of open files: a mixture has more stores than a process may open."""

import collections
import contextlib
import os
import pathlib
import resource
import threading
from collections.abc import Iterator


class FilePool:
  """Keeps the files that were used last open for reading; threads may share it."""

  def __init__(self, limit: int | None = None):
    """Begins with no file.

    Args:
      limit: most files that are open at once; None for 512, or half of what the
        process may open where that is less.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = soft == resource.RLIM_INFINITY
    self.limit = limit or (512 if unlimited else min(512, max(soft // 2, 1)))
    self._descriptors: collections.OrderedDict[pathlib.Path, int] = (
      collections.OrderedDict()
    )
    # One thread at a time, or it might close a file that another is reading.
    self._lock = threading.Lock()

  @contextlib.contextmanager
  def opened(self, path: pathlib.Path) -> Iterator[int]:
    """Gives a file's descriptor, which stays open within the context.

    Args:
      path: the file.

    Raises:
      OSError: it cannot be opened.
    """
    with self._lock:
      if path not in self._descriptors:
        while len(self._descriptors) >= self.limit:
          os.close(self._descriptors.popitem(last=False)[1])
        self._descriptors[path] = os.open(path, os.O_RDONLY)
      self._descriptors.move_to_end(path)
      yield self._descriptors[path]

  def forget(self, path: pathlib.Path) -> None:
    """Closes a file, if it is open: another may have taken its name."""
    with self._lock:
      if (descriptor := self._descriptors.pop(path, None)) is not None:
        os.close(descriptor)

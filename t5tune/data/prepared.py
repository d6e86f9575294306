"""Prepared TFDS datasets: found on disk and read as the plain rows a source gives.

Read from their own files, which describe themselves. Asking TFDS for a builder by
name would look on the network where nothing is prepared.
"""

import functools
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow_datasets as tfds

from t5tune.data.rows import BadRow


def find(
  name: str, data_dir: str | os.PathLike | None
) -> tfds.core.DatasetBuilder | None:
  """Finds a prepared dataset.

  Args:
    name: `builder` or `builder/config`, either with `:version` for one that is not
      the newest.
    data_dir: looked in first, if given; then TFDS_DATA_DIR or TFDS's own default.

  Returns:
    A builder that can only read, or None.
  """
  name, _, version = name.partition(":")
  roots = [data_dir, os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")]
  for root in filter(None, roots):
    folder = pathlib.Path(root).expanduser() / name
    found = [
      path.parent
      for path in folder.glob(f"{version or '*'}/dataset_info.json")
      if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)
    ]
    if found:
      newest = max(found, key=lambda p: tuple(map(int, p.name.split("."))))
      return _open(str(newest))
  return None


@functools.cache
def _open(folder: str) -> tfds.core.DatasetBuilder:
  return tfds.builder_from_directory(folder)


def rows(
  builder: tfds.core.DatasetBuilder, split: str
) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yields a split's rows in their order on disk.

  Args:
    builder: as `find` returns it.
    split: a split it has.

  Yields:
    (where the row stands, the row as the Python values that JSON would give, or a
    `BadRow` where a text is not UTF-8).
  """
  dataset = builder.as_dataset(split=split, shuffle_files=False)
  for i, row in enumerate(tfds.as_numpy(dataset)):
    where = f"TFDS {builder.info.full_name}, {split}, row {i}"
    try:
      yield where, _plain_row(row)
    except UnicodeDecodeError:
      yield where, BadRow(f"{where}: not UTF-8. Prepare the dataset from UTF-8 text.")


def _plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
  def plain(value):
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list):
      return [plain(v) for v in value]
    return value.decode() if isinstance(value, bytes) else value

  return {name: plain(value) for name, value in row.items()}

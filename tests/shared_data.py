"""Where tests find the real data and recorded fixtures, which are not in the repo."""

import os
import pathlib

import pytest

_BESIDE = pathlib.Path(__file__).resolve().parents[2] / "shared"


def shared_dir() -> pathlib.Path:
  """Returns the folder with `data/` and `fixtures/`, or skips the calling test."""
  path = pathlib.Path(os.environ.get("T5TUNE_SHARED", _BESIDE))
  if not (path / "data").is_dir():
    pytest.skip(f"real data absent: no {path}/data (set T5TUNE_SHARED to its parent)")
  return path

"""Fixtures of the data tests."""

from tiny_data import data_dir, vocabulary  # noqa: F401

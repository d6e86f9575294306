"""Fixtures of the tests of weights."""

from tiny_data import vocabulary  # noqa: F401

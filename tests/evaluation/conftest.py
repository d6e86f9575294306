"""Fixtures of the evaluation tests."""

from tiny_data import vocabulary  # noqa: F401

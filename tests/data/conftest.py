"""Fixtures of the data tests."""

from escape_texts import lacking, tokenizers  # noqa: F401
from feed_data import small_windows, three_tasks  # noqa: F401
from tiny_data import data_dir, vocabulary  # noqa: F401

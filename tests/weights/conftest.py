"""Fixtures of the tests of weights."""

import jax
import pytest
from tiny_data import vocabulary  # noqa: F401


@pytest.fixture(scope="module")
def compiled_quickly():
  """Has programs compiled quickly rather than well: initialising takes seconds."""
  name = "jax_disable_most_optimizations"
  before = jax.config.values[name]
  jax.config.update(name, True)
  yield
  jax.config.update(name, before)

"""The largest of long rows: found by blocks as by ordering them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5tune.models import largest


# T5's vocabulary, padded and not; four beams of it; a prime, which has no blocks; short.
@pytest.mark.parametrize("length", [32_128, 32_100, 128_512, 7_919, 12])
@pytest.mark.parametrize("k", [1, 8])
@pytest.mark.parametrize("kind", ["normal", "few values", "mostly -inf"])
def test_blocks_find_what_ordering_finds(length, k, kind):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 3, length)).astype(np.float32)
  if kind == "few values":  # many equals, of which the first come first
    x = np.round(x)
  if kind == "mostly -inf":
    x[x < np.sort(x)[..., -4:-3]] = -np.inf
  found = jax.jit(largest.top_k, static_argnums=1)(x, k)
  expected = jax.lax.top_k(x, k)
  assert found[1].dtype == jnp.int32
  for ours, theirs in zip(found, expected, strict=True):
    np.testing.assert_array_equal(ours, theirs)
  np.testing.assert_array_equal(largest.argmax(x), np.argmax(x, axis=-1))


def test_blocks_fit_a_mesh():
  for length in (32_128, 250_112, 4 * 32_128):
    assert length // largest._block(length) % 8 == 0

"""Products and their gradients are JAX's own, in both dtypes and for any shape."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5tune.models import products

DTYPES = (jnp.float32, jnp.bfloat16)


def draw(shape, dtype, seed):
  return jax.random.normal(jax.random.key(seed), shape, jnp.float32).astype(dtype)


def check(made, plain, args):
  """Compares two functions of `args`, and what they give back, with JAX's in float32."""
  wide = [a.astype(jnp.float32) for a in args]
  expected, back = jax.vjp(plain, *wide)
  got, got_back = jax.vjp(jax.jit(made), *args)
  # What comes back is exact in bfloat16, so that only the products' rounding is seen.
  gradient = draw(expected.shape, jnp.bfloat16, 9).astype(jnp.float32)
  gradients = jax.jit(got_back)(gradient.astype(got.dtype))
  low = jnp.bfloat16 in [a.dtype for a in args]
  for a, b in zip((got, *gradients), (expected, *back(gradient)), strict=True):
    scale = 1e-6 + float(jnp.max(jnp.abs(b)))
    np.testing.assert_allclose(
      np.asarray(a, np.float32) / scale, b / scale, atol=2e-2 if low else 2e-6
    )


SHAPES = list(itertools.product((1, 2), (1, 5, 16), (1, 8, 24), (1, 3, 32)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("shape", SHAPES[::5])
def test_matmul(shape, wide, dtype):
  b, t, i, o = shape
  x, kernel = draw((b, t, i), dtype, 0), draw((i, o), jnp.float32, 1)
  kernel = kernel.astype(dtype).astype(jnp.float32)
  check(lambda x, k: products.matmul(wide, x, k), jnp.matmul, (x, kernel))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES[1::5])
def test_scores_and_mix(shape, dtype):
  b, t, s, k = shape
  query, key = draw((b, 2, t, k), dtype, 0), draw((b, 2, s, k), dtype, 1)
  plain = lambda q, k: jnp.einsum("bhtk,bhsk->bhts", q, k)  # noqa: E731
  check(products.scores, plain, (query, key))
  weights, value = draw((b, 2, t, s), dtype, 2), draw((b, 2, s, k), dtype, 3)
  plain = lambda w, v: jnp.einsum("bhts,bhsk->bhtk", w, v)  # noqa: E731
  check(products.mix, plain, (weights, value))


@pytest.mark.parametrize("dtype", DTYPES)
def test_transposes_around_products(dtype):
  # XLA would take them into the products; and in a loop, as layers are run.
  x, table = draw((16, 16, 24), dtype, 0), draw((24, 24), jnp.float32, 1)
  table = table.astype(dtype).astype(jnp.float32)

  def chained(product, x, table):
    def body(x, _):
      return product(x, table.T).astype(x.dtype).swapaxes(0, 1) / 8, None

    return jax.lax.scan(body, x, None, 2)[0]

  mine = lambda x, k: products.matmul(False, x, k)  # noqa: E731
  check(lambda *a: chained(mine, *a), lambda *a: chained(jnp.matmul, *a), (x, table))


def test_a_kernels_gradient_is_not_rounded():
  x, kernel = draw((64, 8), jnp.bfloat16, 0), draw((8, 8), jnp.float32, 1)
  weights = draw((64, 8), jnp.bfloat16, 2)
  loss = lambda k: jnp.sum(products.matmul(True, x, k) * weights)  # noqa: E731
  made = jax.jit(jax.grad(loss))(kernel)
  assert made.dtype == jnp.float32
  exact = np.asarray(x, np.float64).T @ np.asarray(weights, np.float64)
  np.testing.assert_allclose(made, exact, rtol=1e-5, atol=1e-5)


def test_nothing_is_computed_for_what_does_not_train():
  x, kernel = draw((4, 8), jnp.float32, 0), draw((8, 6), jnp.float32, 1)
  count = lambda f, *a: str(jax.make_jaxpr(f)(*a)).count("dot_general")  # noqa: E731
  loss = lambda x, k: products.matmul(True, x, k).sum()  # noqa: E731
  both = count(jax.grad(loss, (0, 1)), x, kernel)
  assert both == 3
  assert count(jax.grad(loss, 0), x, kernel) == count(jax.grad(loss, 1), x, kernel) == 2

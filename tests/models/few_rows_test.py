"""Products of few rows are XLA's, of any shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5tune import partitioning
from t5tune.models import attention, few_rows


@pytest.fixture(autouse=True)
def compiled():
  if not few_rows.usable(jnp.float32):
    pytest.skip("few_rows.cc cannot be compiled here")


def draw(*shape):
  return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def check(made, left, right):
  # Sums of as many products, in other orders, differ by so many roundings.
  tolerance = 1e-6 * left.shape[-1] ** 0.5
  np.testing.assert_allclose(made, left @ right, atol=tolerance, rtol=1e-5)


@pytest.mark.parametrize("columns", [64, 192, 640])
@pytest.mark.parametrize("depth", [1, 32, 129])
@pytest.mark.parametrize("rows", [1, 3, 8, 15, 64])
def test_rows_times_a_kernel(rows, depth, columns):
  x, kernel = draw(rows, depth), draw(depth, columns)
  blocks = few_rows.lay_out(jnp.asarray(kernel))
  check(jax.jit(few_rows.multiply)(x, kernel, blocks), x, kernel)
  made = few_rows.multiply(x.reshape(rows, 1, depth), kernel, blocks)
  check(made[:, 0], x, kernel)


@pytest.mark.parametrize("columns", [64, 448, 512, 1088])
def test_the_kernels_of_layers(columns):
  kernels, x = draw(3, 5, columns), draw(2, 5)
  blocks = few_rows.lay_out(jnp.asarray(kernels))
  wanted = kernels.reshape(3, 5, -1, 64).swapaxes(1, 2)
  np.testing.assert_array_equal(blocks, wanted)
  for layer, kernel in enumerate(kernels):
    check(few_rows.multiply(x, kernel, blocks, layer), x, kernel)


def test_a_kernel_of_odd_width_is_left_to_xla():
  assert few_rows.lay_out(jnp.zeros((32, 100))) is None


def attended(query, key, value, bias):
  """Attends in float64."""
  scores = query.astype(float) @ key + bias
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  return weights @ value / weights.sum(-1, keepdims=True)


def attend(query, key, value, bias, used=2**31 - 1):
  return few_rows.attend(query, key, value, bias, used, attention._attend)


@pytest.mark.parametrize("keys", [1, 16, 37, 100, 515])
@pytest.mark.parametrize("rows", [1, 3, 7, 8, 40])
@pytest.mark.parametrize("head_dim", [4, 64, 100])
def test_attention(rows, head_dim, keys):
  query, key = draw(2, 3, rows, head_dim) / head_dim**0.5, draw(2, 3, head_dim, keys)
  query = query.astype(np.float32)
  value, bias = draw(2, 3, keys, head_dim), draw(2, 3, rows, keys)
  made = jax.jit(attend)(query, key, value, bias)
  wanted = attended(query, key, value, bias)
  np.testing.assert_allclose(made, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
  "axes", [(), (0,), (1,), (2,), (3,), (0, 2), (1, 2), (0, 1, 3)]
)
def test_a_bias_of_fewer_axes(axes):
  query, key, value = draw(2, 3, 4, 8), draw(2, 3, 8, 5), draw(2, 3, 5, 8)
  bias = draw(*(1 if i in axes else n for i, n in enumerate((2, 3, 4, 5))))
  made = jax.jit(attend)(query, key, value, bias)
  np.testing.assert_allclose(made, attended(query, key, value, bias), atol=1e-5)


@pytest.mark.parametrize("used", [1, 7, 16, 37, 40])
def test_keys_that_are_not_used_are_not_read(used):
  query, key, value = draw(2, 3, 4, 8), draw(2, 3, 8, 40), draw(2, 3, 40, 8)
  bias = draw(2, 3, 4, 40)
  wanted = attended(query, key[..., :used], value[:, :, :used], bias[..., :used])
  key[..., used:], value[:, :, used:], bias[..., used:] = np.nan, np.nan, np.nan
  made = jax.jit(attend)(query, key, value, bias, used)
  np.testing.assert_allclose(made, wanted, atol=1e-5)


def test_hidden_keys_and_rows_without_any():
  query, key, value = draw(2, 1, 1, 8) * 30, draw(2, 1, 8, 20), draw(2, 1, 20, 8)
  mask = np.arange(20) < np.array([7, 0])[:, None, None, None]
  made = attention.cached_attention(query, key, value, attention.masked(None, mask))
  seen = attended(query[:1], key[:1, :, :, :7], value[:1, :, :7], 0.0)
  np.testing.assert_allclose(made[:1], seen, atol=1e-5)
  np.testing.assert_allclose(made[1], value[1].mean(1, keepdims=True), atol=1e-5)


def test_many_at_once_in_a_loop():
  # All threads may wait for parts of products while parts are still to be done.
  left, kernel = draw(8, 64), draw(64, 64) / 64**0.5
  blocks = few_rows.lay_out(jnp.asarray(kernel))

  def step(_, states):
    return [jnp.tanh(few_rows.multiply(x, kernel, blocks)) for x in states]

  states = [jnp.asarray(left * i) for i in range(1, 20)]
  made = jax.jit(lambda states: jax.lax.fori_loop(0, 50, step, states))(states)
  for i, state in enumerate(states):
    for _ in range(50):
      state = jnp.tanh(state @ kernel)
    np.testing.assert_allclose(made[i], state, atol=1e-4)


def test_what_is_left_to_xla():
  assert not few_rows.usable(jnp.bfloat16)
  with jax.set_mesh(partitioning.make_mesh({"data": -1})):
    assert not few_rows.usable(jnp.float32)
  with jax.set_mesh(partitioning.make_mesh({}, jax.devices()[:1])):
    assert few_rows.usable(jnp.float32)


def test_a_program_for_another_device_holds_none_of_it():
  x, kernel = jnp.asarray(draw(8, 64)), jnp.asarray(draw(64, 128))

  def both(x, kernel):
    made = few_rows.multiply(x, kernel, few_rows.lay_out(kernel))
    made = made.reshape(1, 2, 8, 64)
    return attend(made, made.swapaxes(2, 3), made, jnp.zeros((1, 1, 1, 8)))

  traced = jax.jit(both).trace(x, kernel)
  assert "t5tune_few_rows" in traced.lower(lowering_platforms=("cpu",)).as_text()
  assert "t5tune" not in traced.lower(lowering_platforms=("tpu",)).as_text()

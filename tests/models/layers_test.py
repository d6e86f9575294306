"""Tests of a layer's parts: norm, dropout, MLP, relative positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5tune.models import few_rows, layers, lora
from tests.models import tiny_t5


def exact_bucket(relative: int, bidirectional: bool, buckets: int, maximum: int) -> int:
  """Relative position buckets in whole numbers: no logarithm, no rounding."""
  first, distance = 0, max(-relative, 0)
  if bidirectional:
    buckets //= 2
    first, distance = (buckets if relative > 0 else 0), abs(relative)
  half = buckets // 2
  if distance < half:
    return first + distance
  # Bucket half + j starts at half * (maximum / half) ** (j / rest).
  rest, j = buckets - half, 0
  while j + 1 < rest and (
    distance**rest * half ** (j + 1) >= half**rest * maximum ** (j + 1)
  ):
    j += 1
  return first + half + j


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("buckets,maximum", [(32, 128), (8, 20), (16, 1000)])
def test_relative_position_buckets(bidirectional, buckets, maximum):
  relative = np.arange(-1100, 1101)
  found = layers.relative_position_bucket(
    jnp.asarray(relative, jnp.int32), bidirectional, buckets, maximum
  )
  expected = [exact_bucket(int(r), bidirectional, buckets, maximum) for r in relative]
  np.testing.assert_array_equal(found, expected)
  assert set(np.unique(found)) == set(range(buckets)) - (
    # Distance zero counts as "before": the other half never sees it.
    {buckets // 2} if bidirectional else set()
  )


@pytest.mark.parametrize("bidirectional", [True, False])
def test_relative_position_bias_is_its_bucket_s_embedding(bidirectional):
  bias = layers.RelativePositionBias(tiny_t5.CONFIG, bidirectional, nnx.Rngs(0))
  found = bias(jnp.arange(20, 27), jnp.arange(40))
  assert found.shape == (4, 7, 40)
  for t, s in np.ndindex(7, 40):
    bucket = exact_bucket(s - (20 + t), bidirectional, 32, 128)
    np.testing.assert_array_equal(found[:, t, s], bias.rel_embedding[...][:, bucket])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_layer_norm_is_root_mean_square_in_float32(dtype):
  norm = layers.LayerNorm(16, jnp.dtype(dtype), nnx.Rngs(0))
  scale = np.linspace(0.5, 2, 16, dtype=np.float32)
  norm.scale[...] = jnp.asarray(scale)
  # bfloat16 holds these, but not their squares' sum.
  x = np.random.default_rng(0).integers(-300, 300, (3, 16)).astype(dtype)
  wide = np.asarray(x, np.float64)
  expected = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6) * scale
  found = norm(jnp.asarray(x))
  assert found.dtype == dtype
  tolerance = {"float32": 1e-6, "bfloat16": 2**-8}[dtype]
  np.testing.assert_allclose(found.astype(np.float32), expected, rtol=tolerance)


def test_dropout_keeps_the_mean_and_the_share():
  x = jnp.full((400, 500), 3.0)
  dropped = np.asarray(layers.dropout(x, 0.2, jax.random.key(0)))
  assert set(np.unique(dropped)) == {0.0, np.float32(3 / 0.8)}
  assert np.mean(dropped == 0) == pytest.approx(0.2, abs=0.005)
  assert dropped.mean() == pytest.approx(3, abs=0.02)


def test_dropout_is_a_function_of_its_key():
  x = jnp.ones((8, 64))
  once = layers.dropout(x, 0.5, jax.random.key(1))
  np.testing.assert_array_equal(once, layers.dropout(x, 0.5, jax.random.key(1)))
  assert np.any(once != layers.dropout(x, 0.5, jax.random.key(2)))
  np.testing.assert_array_equal(x, layers.dropout(x, 0.5, None))
  np.testing.assert_array_equal(x, layers.dropout(x, 0.0, jax.random.key(1)))


def test_dropout_shares_a_mask_along_an_axis():
  dropped = layers.dropout(
    jnp.ones((4, 16, 32)), 0.5, jax.random.key(0), broadcast_axis=-2
  )
  np.testing.assert_array_equal(dropped, jnp.broadcast_to(dropped[:, :1], (4, 16, 32)))
  assert len(np.unique(dropped[:, 0], axis=0)) == 4


def test_mlp_multiplies_its_activations():
  mlp = layers.MlpBlock(tiny_t5.CONFIG, nnx.Rngs(0))
  x = np.random.default_rng(0).normal(size=(2, 3, 32)).astype(np.float32)
  gate, up = x @ mlp.wi_0.kernel[...], x @ mlp.wi_1.kernel[...]
  gelu = gate / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
  expected = (gelu * up) @ mlp.wo.kernel[...]
  np.testing.assert_allclose(mlp(x, None), expected, atol=1e-5)


@pytest.mark.parametrize("dtype,atol", [("float32", 1e-5), ("bfloat16", 0.05)])
@pytest.mark.parametrize("columns", [8, 48])  # fewer than rows, and more
@pytest.mark.parametrize("leading", [(5,), (3, 2), (2, 3, 2)])
def test_gradients_of_a_product_are_those_of_jax(leading, columns, dtype, atol):
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)  # noqa: E731
  x, back = draw(*leading, 32), draw(*leading, columns)
  axes, init = ("embed", "mlp"), nnx.initializers.normal(0.2)
  dense = layers.Dense((32, columns), axes, init, jnp.dtype(dtype), nnx.Rngs(0))
  graphdef, params = nnx.split(dense)
  ours = lambda params, x: jnp.sum(nnx.merge(graphdef, params)(x) * back)  # noqa: E731
  plain = lambda kernel, x: jnp.sum(x @ kernel.astype(x.dtype) * back)  # noqa: E731
  found = jax.grad(ours, argnums=(0, 1))(params, x)
  expected = jax.grad(plain, argnums=(0, 1))(dense.kernel[...], x)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    assert a.dtype == b.dtype and a.shape == b.shape
    a, b = (np.asarray(y, np.float32) for y in (a, b))
    np.testing.assert_allclose(a, b, atol=atol * 10, rtol=atol)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("columns", [64, 192, 100])
@pytest.mark.parametrize("factors", [None, lora.LoraConfig(rank=4)])
def test_a_kernel_laid_out_for_few_rows_gives_the_same(factors, columns, dtype):
  def build():
    axes, rngs = ("embed", "mlp"), nnx.Rngs(0)
    draw = nnx.initializers.normal(0.2)
    made = layers.Dense((32, columns), axes, draw, jnp.dtype(dtype), rngs, factors)
    if factors:
      made.lora_b[...] = jax.random.normal(jax.random.key(1), made.lora_b.shape)
    return made

  plain, other = build(), build()
  layers.lay_out(other, [other], 6)
  laid_out = few_rows.usable(plain.dtype) and columns != 100
  assert (other.blocks is not None) == laid_out
  x = jax.random.normal(jax.random.key(2), (3, 2, 32), dtype)
  wanted, found = plain(x), other(x)
  assert found.shape == (3, 2, columns)
  assert found.dtype == wanted.dtype
  np.testing.assert_allclose(
    found.astype(jnp.float32), wanted.astype(jnp.float32), atol=1e-5, rtol=1e-5
  )

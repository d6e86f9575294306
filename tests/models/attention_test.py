"""Tests of attention: masks from segment ids, one query and many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5tune.models import attention, cpu_attention, layers

B, T, S, H, K = 3, 5, 7, 4, 8


@pytest.fixture(autouse=True, params=["fused", "by XLA"])
def way(request, monkeypatch):
  """Has each test run both ways of `dot_product_attention`."""
  if request.param == "by XLA":
    monkeypatch.setattr(cpu_attention, "usable", lambda dtype: False)
  elif not cpu_attention.usable(jnp.float32):
    pytest.skip("cpu_attention.cc cannot be compiled here")


def draw(seed: int):
  rng = np.random.default_rng(seed)
  shapes = {"query": (B, T, H, K), "key": (B, S, H, K), "value": (B, S, H, K)}
  arrays = {k: rng.normal(size=v).astype(np.float32) for k, v in shapes.items()}
  arrays["bias"] = rng.normal(size=(H, T, S)).astype(np.float32)
  arrays["mask"] = rng.random((B, 1, T, S)) < 0.7
  arrays["mask"][..., 0] = True
  return arrays


@pytest.mark.parametrize("causal", [False, True])
def test_segment_mask_shows_a_query_its_own_example(causal):
  segments = np.array([[1, 1, 2, 2, 2, 0], [1, 2, 3, 3, 0, 0]])
  mask = attention.segment_mask(jnp.asarray(segments), jnp.asarray(segments), causal)
  assert mask.shape == (2, 1, 6, 6)
  for b, t, s in np.ndindex(2, 6, 6):
    same = segments[b, t] == segments[b, s] != 0
    assert mask[b, 0, t, s] == (same and (s <= t or not causal))


def test_attention_is_the_softmax_of_unscaled_scores():
  a = draw(0)
  scores = np.einsum("bthk,bshk->bhts", a["query"], a["key"]).astype(np.float64)
  weights = np.exp(scores + a["bias"]) * a["mask"]
  weights /= weights.sum(-1, keepdims=True)
  expected = np.einsum("bhts,bshk->bthk", weights, a["value"])
  found = attention.dot_product_attention(**a)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_gradients_are_those_of_the_plain_sum():
  a = draw(4)
  mask, pull = a.pop("mask"), draw(5)["query"]

  def plain(query, key, value, bias):
    scores = jnp.einsum("bthk,bshk->bhts", query, key) + bias
    weights = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf))
    return jnp.sum(jnp.einsum("bhts,bshk->bthk", weights, value) * pull)

  def ours(query, key, value, bias):
    return jnp.sum(
      attention.dot_product_attention(query, key, value, bias, mask) * pull
    )

  arguments = [jnp.asarray(a[k]) for k in ("query", "key", "value", "bias")]
  every = tuple(range(4))
  found, expected = (
    jax.grad(ours, every)(*arguments),
    jax.grad(plain, every)(*arguments),
  )
  for x, y in zip(found, expected, strict=True):
    assert x.dtype == y.dtype
    np.testing.assert_allclose(x, y, atol=1e-5)


@pytest.mark.parametrize("dtype,atol", [("float32", 1e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("beams", [1, T])
def test_queries_attend_to_a_cache_as_they_do_together(beams, dtype, atol, with_bias):
  a = draw(1)
  query, key, value = (jnp.asarray(a[k], dtype) for k in ("query", "key", "value"))
  bias = jnp.asarray(a["bias"]) if with_bias else None
  together = attention.dot_product_attention(query, key, value, bias, a["mask"])
  cache = key.transpose(0, 2, 3, 1), value.swapaxes(1, 2)
  for t in range(0, T, beams):
    some = slice(t, t + beams)
    bias_here = bias[:, some] if with_bias else None
    here = query[:, some].swapaxes(1, 2)
    masked = attention.masked(bias_here, a["mask"][:, :, some])
    found = attention.cached_attention(here, *cache, masked)
    found = found.swapaxes(1, 2)
    assert found.dtype == together.dtype == dtype
    np.testing.assert_allclose(
      found.astype(np.float32), together[:, some].astype(np.float32), atol=atol
    )


def test_a_fully_masked_query_gives_no_nan():
  a = {**draw(2), "mask": np.zeros((B, 1, T, S), bool)}
  total = lambda q: attention.dot_product_attention(**{**a, "query": q}).sum()  # noqa: E731
  value, gradient = jax.value_and_grad(total)(jnp.asarray(a["query"]))
  assert np.isfinite(value)
  assert np.all(gradient == 0)


@pytest.mark.parametrize("dtype,atol", [("float32", 1e-5), ("bfloat16", 3e-2)])
def test_attention_dropout_is_of_the_weights(dtype, atol):
  a, key = draw(4), jax.random.key(0)
  query, keys, value = (jnp.asarray(a[k], dtype) for k in ("query", "key", "value"))

  def ours(query, keys, value):
    return attention.dot_product_attention(
      query, keys, value, a["bias"], a["mask"], 0.4, key
    )

  def plain(query, keys, value):
    scores = jnp.einsum("bthk,bshk->bhts", query, keys) + a["bias"]
    weights = jax.nn.softmax(jnp.where(a["mask"], scores, -1e10).astype(jnp.float32))
    dropped = layers.dropout(weights, 0.4, key, broadcast_axis=-2)
    return jnp.einsum("bhts,bshk->bthk", dropped.astype(dtype), value)

  every, back = (query, keys, value), jax.random.normal(key, query.shape)

  def made(attend):
    gradient = jax.grad(lambda *x: jnp.sum(attend(*x) * back), (0, 1, 2))
    return attend(*every), *gradient(*every)

  for found, expected in zip(made(ours), made(plain), strict=True):
    found, expected = (x.astype(jnp.float32) for x in (found, expected))
    np.testing.assert_allclose(found, expected, atol=10 * atol, rtol=atol)


def test_attention_dropout_serves_all_queries_with_one_mask():
  a = draw(3)
  a["query"][:] = a["query"][:, :1]  # equal queries, so that only a mask can differ
  a |= {"bias": None, "mask": np.ones((B, 1, T, S), bool)}
  dropped = attention.dot_product_attention(
    **a, dropout_rate=0.5, dropout_key=jax.random.key(0)
  )
  np.testing.assert_allclose(dropped, dropped[:, :1].repeat(T, 1), atol=1e-6)
  assert np.any(dropped != attention.dot_product_attention(**a))

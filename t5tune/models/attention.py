"""Attention with T5's relative position bias and masks from segment ids.

The model trains through `dot_product_attention`, and decodes by `cached_attention`.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers

from t5tune import partitioning
from t5tune.models import (
  cpu_attention,
  few_rows,
  gpu_attention,
  layers,
  lora,
  products,
)

# T5X's value: large, yet finite, so that a fully masked row gives no NaN.
_MASKED = -1e10


def segment_mask(
  query_segment_ids: jax.Array, key_segment_ids: jax.Array, causal: bool = False
) -> jax.Array:
  """Returns which keys each query may see.

  Args:
    query_segment_ids: int32 (b, t); 0 marks padding, 1, 2, ... the examples
      packed into a row.
    key_segment_ids: int32 (b, s).
    causal: whether keys after the query are hidden (then t == s).

  Returns:
    bool (b, 1, t, s).
  """
  query, key = query_segment_ids[:, :, None], key_segment_ids[:, None, :]
  mask = (query == key) & (query > 0)
  if causal:
    mask &= jnp.tril(jnp.ones(mask.shape[1:], bool))
  return mask[:, None]


@jax.custom_vjp
def _add_bias(scores: jax.Array, bias: jax.Array) -> jax.Array:
  """Adds a bias (h, t, s) to every row of scores (b, h, t, s).

  Its gradient sums over the batch as a matrix product: on the CPU, XLA's own
  reduction over a leading axis takes longer than the rest of attention.
  """
  return scores + bias


def _add_bias_forward(scores, bias):
  return scores + bias, None


def _add_bias_backward(_, gradient):
  ones = jnp.ones(gradient.shape[0], gradient.dtype)
  return gradient, jnp.tensordot(ones, gradient, axes=1)


_add_bias.defvjp(_add_bias_forward, _add_bias_backward)


def dot_product_attention(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  bias: jax.Array | None,
  mask: jax.Array,
  dropout_rate: float = 0.0,
  dropout_key: jax.Array | None = None,
  unrolled: bool = True,
  fused: bool = True,
) -> jax.Array:
  """Attends without scaling (T5 folds 1/sqrt(k) into the query's initialiser).

  Args:
    query: (b, t, h, k).
    key: (b, s, h, k).
    value: (b, s, h, k).
    bias: float32 (h, t, s), or None.
    mask: bool (b, 1, t, s); False hides a key.
    dropout_rate: share of attention weights dropped.
    dropout_key: PRNG key, or None for no dropout. One mask serves all query
      positions, as in T5X.
    unrolled: whether layers run outside of a scan, where the compiler would see that
      the backward pass computes something again, and keep it after all.
    fused: whether one kernel may do it, where there is one for the device; see
      `cpu_attention` and `gpu_attention`.

  Returns:
    (b, t, h, k) in the dtype of `query`; scores and softmax are float32.
  """
  # A mask for all queries drops keys' weights as it drops their values, which are fewer.
  by_head = value.swapaxes(1, 2)
  by_head = layers.dropout(by_head, dropout_rate, dropout_key, broadcast_axis=-1)
  value = by_head.swapaxes(1, 2)
  if fused and query.size and key.size and cpu_attention.usable(query.dtype):
    return cpu_attention.attend(query, key, value, bias, mask)
  if fused and gpu_attention.usable(query, key, bias is not None, _by_xla):
    return gpu_attention.attend(query, key, value, bias, mask)
  return _by_xla(query, key, value, bias, mask, unrolled)


def _by_xla(query, key, value, bias, mask, unrolled=True):
  query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
  scores = products.scores(query, key)
  if bias is not None:
    scores = _add_bias(scores, bias)
  scores = jnp.where(mask, scores, _MASKED)
  weights = jax.nn.softmax(scores, axis=-1)

  # The backward pass computes this again: the weights are kept as softmax made them, and
  # not a second time as they were cast.
  def mix(weights, value):
    return products.mix(weights.astype(value.dtype), value).swapaxes(1, 2)

  return jax.checkpoint(mix, prevent_cse=unrolled)(weights, value)


def masked(bias: jax.Array | None, mask: jax.Array) -> jax.Array:
  """Returns a bias, float32, that hides the keys where `mask` is False.

  Added to a score, it leaves float32 no digits for the score itself.
  """
  return jnp.where(mask, 0.0 if bias is None else bias, _MASKED)


def cached_attention(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  bias: jax.Array,
  used: jax.Array | int | None = None,
) -> jax.Array:
  """Attends where no gradient is asked for, to keys and values of `project_cached`.

  Heads come before positions, and keys have these last, as the products want them: a
  decoding step reads each row of the cache once, in order, for all n sequences that
  share it, and copies nothing.

  Args:
    query: (b, h, n, k).
    key: (b, h, k, s).
    value: (b, h, s, k).
    bias: float32, of four axes that broadcast to (b, h, n, s), from `masked`.
    used: int32 scalar, how many of the keys any query sees; the bias hides all behind
      them, which then need not be read. None for all.

  Returns:
    (b, h, n, k) in the dtype of `query`; scores and softmax are float32.
  """
  if few_rows.usable(query.dtype):
    used = key.shape[3] if used is None else used
    return few_rows.attend(query, key, value, bias, used, _attend)
  return _attend(query, key, value, bias)


def _attend(query, key, value, bias):
  scores = jnp.matmul(query, key, preferred_element_type=jnp.float32) + bias
  # The softmax's division comes after the product, where there is less to divide.
  weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
  mixed = jnp.matmul(
    weights.astype(value.dtype), value, preferred_element_type=jnp.float32
  )
  mixed /= jnp.sum(weights, axis=-1, keepdims=True)
  return mixed.astype(query.dtype)


class Attention(nnx.Module):
  """Multi-head attention with merged heads×kv kernels and no biases."""

  def __init__(self, config, rngs: nnx.Rngs):
    self.num_heads, self.head_dim = config.num_heads, config.head_dim
    self.dropout_rate = config.dropout_rate
    self.lora, self.unroll = config.lora, config.unroll
    self.fused = config.fused_attention
    joined_kv = config.num_heads * config.head_dim
    kernel_init = initializers.variance_scaling(1.0, "fan_in", "normal")

    def query_init(key, shape, dtype):
      return kernel_init(key, shape, dtype) / config.head_dim**0.5

    def dense(name, shape, axes, init):
      factors = lora.of_kernel(config.lora, name)
      return layers.Dense(shape, axes, init, config.jax_dtype, rngs, factors)

    into, axes = (config.emb_dim, joined_kv), ("embed", "joined_kv")
    self.query = dense("query", into, axes, query_init)
    self.key = dense("key", into, axes, kernel_init)
    self.value = dense("value", into, axes, kernel_init)
    self.out = dense("out", into[::-1], axes[::-1], kernel_init)

  def project_query(self, x: jax.Array, lora_key=None) -> jax.Array:
    """Projects (b, t, d) to queries (b, t, h, k)."""
    return self._split_heads(self.query(x, lora_key))

  def project_key_value(
    self, x: jax.Array, lora_keys=(None, None)
  ) -> tuple[jax.Array, jax.Array]:
    """Projects (b, s, d) to keys and values, each (b, s, h, k)."""
    parts = zip((self.key, self.value), lora_keys, strict=True)
    key, value = (self._split_heads(dense(x, lora_key)) for dense, lora_key in parts)
    return key, value

  def project_cached(self, x: jax.Array, heads: int) -> tuple[jax.Array, jax.Array]:
    """Projects to the keys and values of a cache.

    Args:
      x: (b, s, d).
      heads: of the cache, h, or a multiple of it: head 0 of the first sequence, of the
        second, ..., head 1 of the first, ...; each sequence has keys of its own then.

    Returns:
      (b, heads, k, s*h/heads) and (b, heads, s*h/heads, k).
    """
    key, value = (self._of_heads(y, heads) for y in self.project_key_value(x))
    return key.swapaxes(2, 3), value

  def attend_cached(self, x, key, value, bias, used=None) -> jax.Array:
    """Attends from sequences (b, n, d) to a cache of `project_cached`.

    The rest is as `cached_attention` takes it, with the heads of the cache.
    """
    query = self._of_heads(self.project_query(x), key.shape[1])
    mixed = cached_attention(query, key, value, bias, used)
    mixed = mixed.reshape(len(x), self.num_heads, x.shape[1], self.head_dim)
    return self.out(mixed.swapaxes(1, 2).reshape(*x.shape[:-1], -1))

  def _of_heads(self, x: jax.Array, heads: int) -> jax.Array:
    """Maps (b, n, h, k) to (b, heads, n*h/heads, k), see `project_cached`."""
    return x.swapaxes(1, 2).reshape(len(x), heads, -1, self.head_dim)

  def __call__(self, queries, keys, bias, mask, dropout_key=None) -> jax.Array:
    """Attends from (b, t, d) over (b, s, d); returns (b, t, d)."""
    dropout_key, *lora_keys = lora.dropout_keys(self.lora, dropout_key, 4)
    x = dot_product_attention(
      self.project_query(queries, lora_keys[0]),
      *self.project_key_value(keys, lora_keys[1:3]),
      bias,
      mask,
      self.dropout_rate,
      dropout_key,
      self.unroll,
      self.fused,
    )
    return self.out(x.reshape(*x.shape[:-2], -1), lora_keys[3])

  def _split_heads(self, x: jax.Array) -> jax.Array:
    x = x.reshape(*x.shape[:-1], self.num_heads, self.head_dim)
    return partitioning.constrain(x, "batch", "length", "heads", "kv")

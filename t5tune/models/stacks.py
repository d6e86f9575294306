"""The layers of the two stacks, and how a stack of them is made and run."""

import jax
from flax import nnx

from t5tune import partitioning
from t5tune.models import attention, layers


class EncoderLayer(nnx.Module):
  """Self-attention and MLP, each behind a norm and added to the stream."""

  def __init__(self, config, rngs: nnx.Rngs):
    norm = (config.emb_dim, config.jax_dtype, rngs)
    self.dropout_rate = config.dropout_rate
    self.pre_attention_layer_norm = layers.LayerNorm(*norm)
    self.attention = attention.Attention(config, rngs)
    self.pre_mlp_layer_norm = layers.LayerNorm(*norm)
    self.mlp = layers.MlpBlock(config, rngs)

  def __call__(self, x, bias, mask, dropout_key):
    """Maps (b, s, d) to (b, s, d); bias (h, s, s), mask (b, 1, s, s)."""
    keys = split_key(dropout_key, 4)
    h = self.pre_attention_layer_norm(x)
    h = self.attention(h, h, bias, mask, keys[0])
    x = x + layers.dropout(h, self.dropout_rate, keys[1], broadcast_axis=-2)
    h = self.mlp(self.pre_mlp_layer_norm(x), keys[2])
    x = x + layers.dropout(h, self.dropout_rate, keys[3], broadcast_axis=-2)
    return partitioning.constrain(x, "batch", "length", "embed")

  def infer(self, x, bias):
    """Does as a call does, without dropout or gradient; the bias (b, h, s, s) masks."""
    h = self.pre_attention_layer_norm(x)
    key_value = self.attention.project_cached(h, bias.shape[1])
    x = x + self.attention.attend_cached(h, *key_value, bias)
    return x + self.mlp(self.pre_mlp_layer_norm(x), None)


class DecoderLayer(nnx.Module):
  """Causal self-attention, cross-attention and MLP."""

  def __init__(self, config, rngs: nnx.Rngs):
    norm = (config.emb_dim, config.jax_dtype, rngs)
    self.dropout_rate = config.dropout_rate
    self.pre_self_attention_layer_norm = layers.LayerNorm(*norm)
    self.self_attention = attention.Attention(config, rngs)
    self.pre_cross_attention_layer_norm = layers.LayerNorm(*norm)
    self.encoder_decoder_attention = attention.Attention(config, rngs)
    self.pre_mlp_layer_norm = layers.LayerNorm(*norm)
    self.mlp = layers.MlpBlock(config, rngs)

  def __call__(self, x, encoded, bias, self_mask, cross_mask, dropout_key):
    """Maps (b, t, d) to (b, t, d); `encoded` is (b, s, d)."""
    keys = split_key(dropout_key, 6)
    h = self.pre_self_attention_layer_norm(x)
    h = self.self_attention(h, h, bias, self_mask, keys[0])
    x = x + layers.dropout(h, self.dropout_rate, keys[1], broadcast_axis=-2)
    h = self.pre_cross_attention_layer_norm(x)
    h = self.encoder_decoder_attention(h, encoded, None, cross_mask, keys[2])
    x = x + layers.dropout(h, self.dropout_rate, keys[3], broadcast_axis=-2)
    h = self.mlp(self.pre_mlp_layer_norm(x), keys[4])
    x = x + layers.dropout(h, self.dropout_rate, keys[5], broadcast_axis=-2)
    return partitioning.constrain(x, "batch", "length", "embed")

  def step(self, x, cache, cross_key_value, position, bias, cross_bias):
    """Decodes one position of n sequences against the cache.

    Args:
      x: (b, n, d), the stream at `position`.
      cache: keys and values of the positions so far. Where the sequences of a row share
        them, (b, h, k, t*n) and (b, h, t*n, k): position 0's n, position 1's n, ...
        Where each has its own, (b, h*n, k, t) and (b, h*n, t, k): the first head's n,
        the second's n, ...
      cross_key_value: projections of the encoder's output: (b, h, k, s), (b, h, s, k).
      position: int32 scalar.
      bias: of self-attention, masked: broadcastable to (b, h, n, t*n), or to
        (b, h*n, 1, t).
      cross_bias: (b, 1, 1, s), which masks alone.

    Returns:
      (b, n, d) and the cache with `position` filled in.
    """
    h = self.pre_self_attention_layer_norm(x)
    new = self.self_attention.project_cached(h, cache[0].shape[1])
    count = new[0].shape[3]  # of keys a position
    start = position * count
    cache = tuple(
      jax.lax.dynamic_update_slice_in_dim(old, n, start, axis)
      for old, n, axis in zip(cache, new, (3, 2), strict=True)
    )
    x = x + self.self_attention.attend_cached(h, *cache, bias, start + count)
    h = self.pre_cross_attention_layer_norm(x)
    x = x + self.encoder_decoder_attention.attend_cached(
      h, *cross_key_value, cross_bias
    )
    return x + self.mlp(self.pre_mlp_layer_norm(x), None), cache


# What the backward pass finds kept of each layer, beside the layer's input, by
# `T5Config.remat`; the rest is computed again. 'dots' keeps what the kernels made and
# not the attention scores, which grow with the square of the length (T5X: 'minimal').
_KEPT = {
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "full": jax.checkpoint_policies.nothing_saveable,
}


def split_key(key: jax.Array | None, count: int):
  """Returns `count` keys of a dropout key, or as many None of None."""
  return [None] * count if key is None else jax.random.split(key, count)


def stack(layer_class, config, count: int, rngs: nnx.Rngs) -> nnx.Module:
  """Returns `count` layers as one module with stacked parameters."""

  @nnx.vmap(in_axes=0, out_axes=0)
  def create(rngs):
    return layer_class(config, rngs)

  return create(rngs.fork(split=count))


def unstack(stacked: nnx.Module) -> list[nnx.Module]:
  """Returns the layers of a stack one by one."""
  graphdef, params = nnx.split(stacked)
  count = jax.tree.leaves(params)[0].shape[0]
  return [
    nnx.merge(graphdef, jax.tree.map(lambda x, i=i: x[i], params)) for i in range(count)
  ]


def scan(body, config, stacked: nnx.Module, x, dropout_key):
  """Applies `body(layer, x, key)` for each of the stacked layers in turn."""
  graphdef, params = nnx.split(stacked)
  count = jax.tree.leaves(params)[0].shape[0]
  keys = None if dropout_key is None else jax.random.split(dropout_key, count)

  def apply(x, layer_inputs):
    layer_params, key = layer_inputs
    return body(nnx.merge(graphdef, layer_params), x, key), None

  if config.remat != "none":
    policy = _KEPT[config.remat]
    apply = jax.checkpoint(apply, prevent_cse=config.unroll, policy=policy)
  return jax.lax.scan(apply, x, (params, keys), unroll=config.unroll)[0]

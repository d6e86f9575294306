"""The parts of a T5 layer: norm, embedding, MLP, dropout, relative positions.

Parameter names and initialisers follow T5X's minimal T5 (`examples/t5/layers.py`)
so that conversion is one table. Letters in shapes: b batch, t target (query)
positions, s source (key) positions, d emb_dim, h heads, k head_dim, f mlp_dim,
v vocab, r relative buckets, l layers.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers

from t5tune import partitioning
from t5tune.models import few_rows, lora, products

_ACTIVATIONS = {
  # T5 1.1 and FLAN use the tanh approximation ("gelu_new" in Hugging Face).
  "gelu": lambda x: jax.nn.gelu(x, approximate=True),
  "relu": jax.nn.relu,
  "linear": lambda x: x,
}


def param(key, initializer, shape, logical_axes) -> nnx.Param:
  """Returns a float32 parameter that knows its logical axes."""
  return nnx.Param(initializer(key, shape, jnp.float32), logical_axes=logical_axes)


def dropout(
  x: jax.Array, rate: float, key: jax.Array | None, broadcast_axis: int | None = None
) -> jax.Array:
  """Zeroes a share `rate` of `x` and scales the rest by 1 / (1 - rate).

  Args:
    x: activations of any shape.
    rate: the share to drop.
    key: a PRNG key, or None for no dropout (evaluation).
    broadcast_axis: an axis along which one mask is shared. T5 shares masks over
      the length, as in T5X (`broadcast_dims=(-2,)`): fewer random bits, too.

  Returns:
    An array like `x`.
  """
  if key is None or rate == 0.0:
    return x
  shape = list(x.shape)
  if broadcast_axis is not None:
    shape[broadcast_axis] = 1
  keep = jax.random.bernoulli(key, 1.0 - rate, tuple(shape))
  return x * (keep / (1.0 - rate)).astype(x.dtype)


class LayerNorm(nnx.Module):
  """T5's layer norm: root mean square in float32, a scale, no mean, no bias."""

  def __init__(self, emb_dim: int, dtype, rngs: nnx.Rngs):
    self.dtype = dtype
    self.scale = param(rngs.params(), initializers.ones, (emb_dim,), ("embed",))

  def __call__(self, x: jax.Array) -> jax.Array:
    x = x.astype(jnp.float32)
    mean_square = jnp.mean(jax.lax.square(x), axis=-1, keepdims=True)
    x = x * jax.lax.rsqrt(mean_square + 1e-6)
    return (x * self.scale[...]).astype(self.dtype)


class Dense(nnx.Module):
  """A matrix multiplication without bias, (..., in) -> (..., out), with or without LoRA.

  The result is of `dtype`, or float32 where it is `wide`. See `lora.py`.
  """

  blocks = None  # the kernels of all layers as `few_rows.lay_out` has them
  layer = 0  # which of them is this one's

  def __init__(
    self,
    shape,
    logical_axes,
    initializer,
    dtype,
    rngs: nnx.Rngs,
    factors: lora.LoraConfig | None = None,
    wide: bool = False,
  ):
    self.dtype, self.wide = dtype, wide
    self.factors = factors
    key = rngs.params()
    self.kernel = param(key, initializer, shape, logical_axes)
    if factors is not None:
      (rows, columns), (row_axis, column_axis) = shape, logical_axes
      # Of the kernel's key, so that the base is what it is without LoRA.
      key = jax.random.fold_in(key, 1)
      axes = (row_axis, "lora_rank")
      self.lora_a = param(key, lora.init_a, (rows, factors.rank), axes)
      axes = ("lora_rank", column_axis)
      self.lora_b = param(key, initializers.zeros, (factors.rank, columns), axes)

  def _product(self, x: jax.Array) -> jax.Array:
    if self.blocks is None:
      return products.matmul(self.wide, x, self.kernel[...])
    return few_rows.multiply(x, self.kernel[...], self.blocks, self.layer)

  def __call__(self, x: jax.Array, lora_key: jax.Array | None = None) -> jax.Array:
    """Maps (..., in) to (..., out); `lora_key` is for the dropout of LoRA alone."""
    x = x.astype(self.dtype)
    y = self._product(x)
    if self.factors is None:
      return y
    x = dropout(x, self.factors.dropout_rate, lora_key)
    inner = self.factors.scale * (x @ self.lora_a[...].astype(self.dtype))  # (..., r)
    return y + inner @ self.lora_b[...].astype(self.dtype)


def lay_out(stacked: nnx.Module, layer_list: Sequence[nnx.Module], rows: int) -> None:
  """Lays kernels out as products of so many rows want them, to be read fast.

  To be called where a program begins, for all products that it will make.

  Args:
    stacked: layers as one module; their kernels are copied.
    layer_list: the same one by one, which will multiply by what was laid out.
    rows: of every product.
  """
  if rows > few_rows.MOST_ROWS:
    return
  for (_, whole), *parts in zip(
    *map(nnx.iter_modules, (stacked, *layer_list)), strict=True
  ):
    if isinstance(whole, Dense) and few_rows.usable(whole.dtype):
      blocks = few_rows.lay_out(whole.kernel[...])
      for i, (_, part) in enumerate(parts):
        part.blocks, part.layer = nnx.data(blocks), i


class Embed(nnx.Module):
  """The token embedding, shared by encoder and decoder."""

  def __init__(self, vocab_size: int, emb_dim: int, dtype, rngs: nnx.Rngs):
    self.dtype = dtype
    self.embedding = param(
      rngs.params(),
      initializers.normal(1.0),
      (vocab_size, emb_dim),
      ("vocab", "embed"),
    )

  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Looks up int32 tokens (b, t); returns (b, t, d)."""
    # Gathered over `fsdp` before the lookup: a table split along its width
    # would have every device look up every row of the batch.
    table = self.embedding[...].astype(self.dtype)
    table = partitioning.constrain(table, "vocab", None)
    return partitioning.constrain(table[tokens], "batch", "length", "embed")

  def attend(self, x: jax.Array) -> jax.Array:
    """Multiplies (b, t, d) by the embedding's transpose; returns float32 (b, t, v)."""
    return products.matmul(True, x.astype(self.dtype), self.embedding[...].T)


def mlp_inputs(activations) -> list[str]:
  """Returns the names of an MLP's input kernels, one for each activation."""
  count = len(activations)
  return ["wi"] if count == 1 else [f"wi_{i}" for i in range(count)]


class MlpBlock(nnx.Module):
  """T5's feed-forward block, gated where there are two activations.

  One activation gives T5 1.0's `wi`, `wo`; two give T5 1.1's `wi_0`, `wi_1`, `wo`.
  """

  def __init__(self, config, rngs: nnx.Rngs):
    self.activations = tuple(config.mlp_activations)
    self.dropout_rate = config.dropout_rate
    self.lora, self.unroll = config.lora, config.unroll
    kernel_init = initializers.variance_scaling(1.0, "fan_in", "truncated_normal")

    def dense(name, shape, axes):
      factors = lora.of_kernel(config.lora, name)
      return Dense(shape, axes, kernel_init, config.jax_dtype, rngs, factors)

    shape, axes = (config.emb_dim, config.mlp_dim), ("embed", "mlp")
    for name in mlp_inputs(self.activations):
      setattr(self, name, dense(name, shape, axes))
    self.wo = dense("wo", shape[::-1], axes[::-1])

  def __call__(self, x: jax.Array, dropout_key: jax.Array | None) -> jax.Array:
    """Maps (b, t, d) to (b, t, d)."""
    names = mlp_inputs(self.activations)
    dropout_key, *keys = lora.dropout_keys(self.lora, dropout_key, len(names) + 1)
    parts = [getattr(self, n)(x, k) for n, k in zip(names, keys[1:], strict=True)]
    # The backward pass computes this again: kept, it is six arrays of the size (b, t, f).
    gate = jax.checkpoint(self._gate, prevent_cse=self.unroll)
    return self.wo(gate(parts, dropout_key), keys[0])

  def _gate(self, parts, dropout_key):
    hidden = 1.0
    for activation, part in zip(self.activations, parts, strict=True):
      hidden = hidden * _ACTIVATIONS[activation](part)  # (b, t, f)
    return dropout(hidden, self.dropout_rate, dropout_key, broadcast_axis=-2)


def relative_position_bucket(
  relative_position: jax.Array,
  bidirectional: bool,
  num_buckets: int = 32,
  max_distance: int = 128,
) -> jax.Array:
  """Maps key position minus query position to a bucket.

  Half of the buckets are for exact small distances, the other half for
  logarithmically larger ones up to `max_distance`, as in T5X's and Hugging
  Face's `_relative_position_bucket`.

  Args:
    relative_position: int32 array of any shape, source minus target position.
    bidirectional: whether keys may follow the query (encoder) or not (decoder).
    num_buckets: number of buckets.
    max_distance: distances from here on share the last bucket.

  Returns:
    int32 buckets in [0, num_buckets), of the same shape.
  """
  bucket = jnp.zeros_like(relative_position)
  if bidirectional:
    num_buckets //= 2
    bucket += (relative_position > 0).astype(jnp.int32) * num_buckets
    distance = jnp.abs(relative_position)
  else:
    distance = -jnp.minimum(relative_position, 0)
  max_exact = num_buckets // 2
  # The epsilon keeps log away from zero; T5X adds the same one.
  log_ratio = jnp.log(
    distance.astype(jnp.float32) / max_exact + jnp.finfo(jnp.float32).eps
  ) / math.log(max_distance / max_exact)
  large = max_exact + (log_ratio * (num_buckets - max_exact)).astype(jnp.int32)
  large = jnp.minimum(large, num_buckets - 1)
  return bucket + jnp.where(distance < max_exact, distance, large)


class RelativePositionBias(nnx.Module):
  """Learned attention bias by relative position, shared by a stack's layers."""

  def __init__(self, config, bidirectional: bool, rngs: nnx.Rngs):
    self.bidirectional = bidirectional
    self.num_buckets = config.relpos_buckets
    self.max_distance = config.relpos_max_distance
    self.rel_embedding = param(
      rngs.params(),
      initializers.variance_scaling(1.0, "fan_avg", "uniform"),
      (config.num_heads, config.relpos_buckets),
      ("heads", "relpos_buckets"),
    )

  def __call__(self, query_positions: jax.Array, key_positions: jax.Array) -> jax.Array:
    """Returns float32 biases (h, t, s) for int32 positions (t,) and (s,)."""
    buckets = relative_position_bucket(
      key_positions[None, :] - query_positions[:, None],
      self.bidirectional,
      self.num_buckets,
      self.max_distance,
    )
    return self.rel_embedding[...][:, buckets]

"""Products of few rows on one CPU, and attention from them: `few_rows.cc`.

XLA reads the matrices of such products at a fifth to a third of the memory's speed, and
many by one thread. Where there is no compiler, and on all other devices, XLA multiplies.
"""

import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from t5tune import native, partitioning

_SOURCE = pathlib.Path(__file__).with_suffix(".cc")
_HANDLERS = ("few_rows_lay_out", "few_rows_blocks", "few_rows_attend")
_BLOCK = 64  # columns
MOST_ROWS = 64  # XLA multiplies more of them by a kernel as fast


def usable(dtype) -> bool:
  """Returns whether what is traced here can use this module, in this dtype."""
  return (
    dtype == jnp.float32
    and partitioning.on_one_cpu_device()
    and native.register(_SOURCE, _HANDLERS)
  )


def lay_out(kernels: jax.Array) -> jax.Array | None:
  """Returns the kernels of all layers in blocks of columns, each one piece of memory.

  Args:
    kernels: float32 (layers, in, out), or of one layer (in, out).

  Returns:
    float32 (layers, out / 64, in, 64), or None if `out` is no multiple of 64.
  """
  *_, rows, columns = kernels.shape
  if columns % _BLOCK:
    return None
  kernels = kernels.reshape(-1, rows, columns)

  def plain(kernels):
    return kernels.reshape(len(kernels), rows, -1, _BLOCK).swapaxes(1, 2)

  shape = jax.eval_shape(plain, kernels)
  on_cpu = jax.ffi.ffi_call("t5tune_few_rows_lay_out", shape)
  return jax.lax.platform_dependent(kernels, cpu=on_cpu, default=plain)


def multiply(
  x: jax.Array, kernel: jax.Array, blocks: jax.Array, layer: int = 0
) -> jax.Array:
  """Multiplies float32 (..., in) by a kernel (in, out).

  Args:
    x: the rows.
    kernel: for devices that are not CPUs, when a program is compiled for one from here.
    blocks: the same among those of all layers, from `lay_out`. They come whole: a slice
      of them would be a copy.
    layer: which of them it is.
  """
  columns = blocks.shape[1] * blocks.shape[3]

  def on_cpu(x):
    shape = jax.ShapeDtypeStruct((x.size // x.shape[-1], columns), jnp.float32)
    call = jax.ffi.ffi_call("t5tune_few_rows_blocks", shape)
    made = call(x.reshape(-1, x.shape[-1]), blocks, layer=np.int64(layer))
    return made.reshape(*x.shape[:-1], columns)

  return jax.lax.platform_dependent(x, cpu=on_cpu, default=lambda x: x @ kernel)


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  bias: jax.Array,
  used: jax.Array | int,
  plain: Callable[..., jax.Array],
) -> jax.Array:
  """Attends as `attention.cached_attention` does.

  Args:
    query: float32 (b, h, n, k).
    key: float32 (b, h, k, s).
    value: float32 (b, h, s, k).
    bias: float32, of four axes that broadcast to (b, h, n, s); it masks, too.
    used: int32 scalar, of the keys those that are read: the bias hides all behind them.
    plain: the same of the others, for devices that are not CPUs.

  Returns:
    float32 (b, h, n, k).
  """
  shape = jax.ShapeDtypeStruct(query.shape, jnp.float32)
  on_cpu = jax.ffi.ffi_call("t5tune_few_rows_attend", shape)
  used = jnp.asarray(used, jnp.int32)
  return jax.lax.platform_dependent(
    query, key, value, bias, used, cpu=on_cpu, default=lambda *all: plain(*all[:-1])
  )

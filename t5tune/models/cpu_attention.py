"""Attention of training on one CPU, and its gradients: `cpu_attention.cc`.

XLA makes the scores of all heads, the softmax and their gradients in memory, by products of
narrow matrices at half of their rate. Where there is no compiler, and on all other devices,
it does so.
"""

import functools
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import custom_derivatives

from t5tune import native, partitioning

_SOURCE = pathlib.Path(__file__).with_suffix(".cc")
_HANDLERS = ("cpu_attention_forward", "cpu_attention_backward")


def usable(dtype) -> bool:
  """Returns whether what is traced here can use this module, in this dtype."""
  return (
    dtype in (jnp.float32, jnp.bfloat16)
    and partitioning.on_one_cpu_device()
    and native.register(_SOURCE, _HANDLERS)
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend(
  plain: Callable[..., jax.Array],
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  bias: jax.Array | None,
  mask: jax.Array,
) -> jax.Array:
  """Attends as `attention.dot_product_attention` does without dropout.

  Args:
    plain: the same of the other arguments, for devices that are not CPUs.
    query: float32 or bfloat16 (b, t, h, k).
    key: (b, s, h, k), like `query`.
    value: (b, s, h, k), like `query`.
    bias: float32 (h, t, s), or None.
    mask: bool (b, 1, t, s).

  Returns:
    (b, t, h, k), like `query`.
  """
  return _attend(plain, query, key, value, bias, mask)[0]


def _attend(plain, query, key, value, bias, mask):
  """Returns what `attend` does, and float32 (2, b, h, t), see cpu_attention.cc."""
  b, t, h, _ = query.shape
  shapes = query, jax.ShapeDtypeStruct((2, b, h, t), jnp.float32)
  shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in shapes)

  def on_cpu(*inputs):
    return jax.ffi.ffi_call("t5tune_cpu_attention_forward", shapes)(*_given(*inputs))

  def otherwise(*inputs):
    return plain(*inputs), jnp.zeros(shapes[1].shape)

  inputs = query, key, value, bias, mask
  return jax.lax.platform_dependent(*inputs, cpu=on_cpu, default=otherwise)


def _given(query, key, value, bias, mask):
  bias = jnp.zeros((0, 0, 0)) if bias is None else bias
  return query, key, value, bias, mask[:, 0]


def _forward(plain, query, key, value, bias, mask):
  bias_trains = bias is not None and bias.perturbed
  inputs = [None if x is None else x.value for x in (query, key, value, bias, mask)]
  made, softmax = _attend(plain, *inputs)
  return made, (inputs, softmax, made, bias_trains)


def _backward(plain, kept, gradient):
  inputs, softmax, made, bias_trains = kept
  query, key, _, bias, mask = inputs
  if isinstance(gradient, custom_derivatives.SymbolicZero):
    return None, None, None, None, None
  like = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)  # noqa: E731
  size = bias.shape if bias_trains else (query.shape[2], 0, 0)
  of_bias = jax.ShapeDtypeStruct(size, jnp.float32)
  shapes = like(query), like(key), like(key), of_bias

  def on_cpu(inputs, softmax, made, gradient):
    call = jax.ffi.ffi_call("t5tune_cpu_attention_backward", shapes)
    return tuple(call(*_given(*inputs), softmax, made, gradient))

  def otherwise(inputs, softmax, made, gradient):
    *found, of_bias = jax.vjp(lambda *x: plain(*x, mask), *inputs[:4])[1](gradient)
    return *found, of_bias if bias_trains else jnp.zeros(size)

  args = inputs, softmax, made, gradient
  *found, of_bias = jax.lax.platform_dependent(*args, cpu=on_cpu, default=otherwise)
  return *found, of_bias if bias_trains else None, None


attend.defvjp(_forward, _backward, symbolic_zeros=True)

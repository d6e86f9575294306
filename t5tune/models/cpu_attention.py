"""Attention of training on one CPU, and its gradients: `cpu_attention.cc`.

XLA makes the scores of all heads, the softmax and their gradients in memory, by products of
narrow matrices at half of their rate. It still does all of it on other devices, and where
there is no compiler.
"""

import pathlib

import jax
import jax.numpy as jnp
from jax import custom_derivatives

from t5tune import native, partitioning

_SOURCE = pathlib.Path(__file__).with_suffix(".cc")
_HANDLERS = ("cpu_attention_forward", "cpu_attention_backward")
_PARTS = 4  # of the examples, at most, whose gradients of the bias are summed apart
_FORWARD, _BACKWARD = (f"t5tune_{name}" for name in _HANDLERS)
# Products that each makes of all queries and keys, or values.
PRODUCTS = {_FORWARD: 2, _BACKWARD: 5}


def usable(dtype) -> bool:
  """Returns whether what is traced here can use this module, in this dtype."""
  return (
    dtype in (jnp.float32, jnp.bfloat16)
    and partitioning.on_one_cpu_device()
    and native.register(_SOURCE, _HANDLERS)
  )


@jax.custom_vjp
def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  bias: jax.Array | None,
  mask: jax.Array,
) -> jax.Array:
  """Attends as `attention.dot_product_attention` does without dropout.

  No scores are kept for the backward pass, which makes them again, as in FlashAttention
  (Dao et al. 2022).

  Args:
    query: float32 or bfloat16 (b, t, h, k).
    key: (b, s, h, k), like `query`.
    value: (b, s, h, k), like `query`.
    bias: float32 (h, t, s), or None.
    mask: bool (b, 1, t, s).

  Returns:
    (b, t, h, k), like `query`; all between is float32.
  """
  return _attend(query, key, value, bias, mask)[0]


def _attend(query, *others):
  """Returns what `attend` does, and float32 (2, b, h, t), see cpu_attention.cc."""
  b, t, h, _ = query.shape
  shapes = _like(query), jax.ShapeDtypeStruct((2, b, h, t), jnp.float32)
  return _call(_FORWARD, shapes)(*_given(query, *others))


def _like(x):
  return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _call(target, shapes):
  return jax.ffi.ffi_call(target, shapes, vmap_method="sequential")


def _given(query, key, value, bias, mask):
  (b, t, h, _), s = query.shape, key.shape[1]
  assert query.dtype == key.dtype == value.dtype and mask.shape == (b, 1, t, s)
  if bias is None:
    bias = jnp.zeros((0, 0, 0), jnp.float32)
  assert bias.shape in ((h, t, s), (0, 0, 0))
  return query, key, value, bias, mask[:, 0]


def _forward(query, key, value, bias, mask):
  bias_trains = bias is not None and bias.perturbed
  inputs = [None if x is None else x.value for x in (query, key, value, bias, mask)]
  made, softmax = _attend(*inputs)
  return made, (inputs, softmax, bias_trains)


def _backward(kept, gradient):
  inputs, softmax, bias_trains = kept
  if isinstance(gradient, custom_derivatives.SymbolicZero):
    return (None,) * 5
  query, key, value, bias, _ = inputs
  size = bias.shape if bias_trains else (0, 0, 0)
  sums = size, (min(_PARTS, len(query)) - 1, *size)
  sums = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in sums)
  shapes = *map(_like, (query, key, value)), *sums
  *found, of_bias, _ = _call(_BACKWARD, shapes)(*_given(*inputs), softmax, gradient)
  return *found, of_bias if bias_trains else None, None


attend.defvjp(_forward, _backward, symbolic_zeros=True)

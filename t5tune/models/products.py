"""Products of matrices and their gradients, as the devices want them.

All are of the model's dtype and add up in float32. In bfloat16, what comes back from a
float32 result is rounded before it is multiplied: JAX's own gradients would multiply
float32 by bfloat16, in float32.

XLA on the CPU multiplies bfloat16 with its own instructions, twice as fast as float32,
where the result is float32 and the left side has its rows in memory one after another.
Barriers keep transposes, of a left side and of a result, out of such a product: XLA would
make another product of it, slower, or one that it cannot run. In float32 it is left alone.
"""

import functools

import jax
import jax.numpy as jnp
from jax import custom_derivatives

_BATCH = (0, 1)  # of arrays (b, h, rows, columns)


def _needs_rows(dtype) -> bool:
  return dtype != jnp.float32 and jax.default_backend() == "cpu"


def _product(left, right, contracted, batch=(), wide=False):
  """Multiplies over the last axis of the left side, and `contracted` of the right one."""
  numbers = (((left.ndim - 1,), (contracted,)), (batch, batch))
  if not _needs_rows(left.dtype):
    dtype = jnp.float32 if wide else left.dtype
    return jax.lax.dot_general(left, right, numbers, preferred_element_type=dtype)
  left = jax.lax.optimization_barrier(left)
  made = jax.lax.dot_general(left, right, numbers, preferred_element_type=jnp.float32)
  made = jax.lax.optimization_barrier(made)
  return made if wide else made.astype(left.dtype)


def _transposed(x):
  """Returns x^T, which XLA takes for an array like any other.

  It would take a plain transpose into the product, or not have its layout.
  """
  turned = jax.lax.optimization_barrier(x[None].transpose(2, 0, 1))
  return turned.reshape(x.shape[::-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def matmul(wide: bool, x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Multiplies (..., in) by a kernel (in, out), which is cast to the dtype of `x`.

  Args:
    wide: whether the result is float32, or of the dtype of `x`.
    x: float32 or bfloat16 (..., in).
    kernel: float32 (in, out); its gradient is not rounded to the dtype of `x`.
  """
  return _product(x, kernel.astype(x.dtype), 0, wide=wide)


def _matmul_forward(wide, x, kernel):
  # A kernel that nobody trains, LoRA's base, gets no gradient; nor does such an input.
  narrow = kernel.value.astype(x.value.dtype)
  kept = x.value if kernel.perturbed else None, narrow if x.perturbed else None
  return _product(x.value, narrow, 0, wide=wide), kept


def _matmul_backward(wide, kept, gradient):
  x, kernel = kept
  if isinstance(gradient, custom_derivatives.SymbolicZero):
    return None, None
  gradient = gradient.astype((kernel if x is None else x).dtype)
  return (
    None if kernel is None else _product(gradient, kernel, 1),
    None if x is None else _kernel_gradient(x, gradient),
  )


def _kernel_gradient(x, gradient):
  """Returns the sum over all rows of x^T times the gradient, float32.

  JAX's own is that of the transposes, transposed: XLA on the CPU then transposes what
  comes back inside of the computation that makes it, with every read a cache miss.
  """
  x, gradient = (a.reshape(-1, a.shape[-1]) for a in (x, gradient))
  if not _needs_rows(x.dtype):
    rows = (((0,), (0,)), ((), ()))
    return jax.lax.dot_general(x, gradient, rows, preferred_element_type=jnp.float32)
  if x.shape[1] <= gradient.shape[1]:
    return _product(_transposed(x), gradient, 0, wide=True)
  return _product(_transposed(gradient), x, 0, wide=True).T


matmul.defvjp(_matmul_forward, _matmul_backward, symbolic_zeros=True)


@jax.custom_vjp
def scores(query: jax.Array, key: jax.Array) -> jax.Array:
  """Returns float32 (b, h, t, s), each query (b, h, t, k) times each key (b, h, s, k)."""
  return _product(query, key, 3, _BATCH, wide=True)


def _scores_forward(query, key):
  return scores(query, key), (query, key)


def _scores_backward(kept, gradient):
  query, key = kept
  gradient = gradient.astype(query.dtype)
  of_query = _product(gradient, key, 2, _BATCH)
  # Transposed, the smaller of the two is.
  of_key = _product(query.swapaxes(2, 3), gradient, 2, _BATCH).swapaxes(2, 3)
  return of_query, of_key


scores.defvjp(_scores_forward, _scores_backward)


@jax.custom_vjp
def mix(weights: jax.Array, value: jax.Array) -> jax.Array:
  """Returns (b, h, t, k), values (b, h, s, k) weighted by (b, h, t, s)."""
  return _product(weights, value, 2, _BATCH)


def _mix_forward(weights, value):
  return mix(weights, value), (weights, value)


def _mix_backward(kept, gradient):
  weights, value = kept
  of_weights = _product(gradient, value, 3, _BATCH)
  of_value = _product(gradient.swapaxes(2, 3), weights, 2, _BATCH).swapaxes(2, 3)
  return of_weights, of_value


mix.defvjp(_mix_forward, _mix_backward)

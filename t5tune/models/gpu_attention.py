"""Attention of training on one NVIDIA GPU, and its gradients: cuDNN's, through jax.

cuDNN takes the bias and the mask as one array (b, h, t, s) of bfloat16, and gives the
gradient of that. Which shapes it takes, and whether it gives that gradient, depends on the
card and on versions; so each shape is tried, beside the plain attention, before it is used.
"""

import functools
import logging
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from t5tune import partitioning

_ROWS = 2  # of the examples that a shape is tried on
_TOLERANCE = 0.05  # of the largest value; bfloat16 itself makes some 0.01
_log = logging.getLogger(__name__)
# Products that jax's primitives make of all queries and keys, or values.
PRODUCTS = {
  "dot_product_attention_fwd_wrapper": 2,
  "dot_product_attention_bwd_wrapper": 5,
}
Attend = Callable[..., jax.Array]  # of query, key, value, bias and mask


def usable(query: jax.Array, key: jax.Array, has_bias: bool, plain: Attend) -> bool:
  """Returns whether what is traced here can use this module, for these shapes.

  Args:
    query: (b, t, h, k).
    key: (b, s, h, k).
    has_bias: whether there is a bias beside the mask.
    plain: what it is to agree with; the same object each time.
  """
  if query.dtype != jnp.bfloat16 or not partitioning.on_one_gpu():
    return False
  (_, t, h, k), s = query.shape, key.shape[1]
  return _tried(t, s, h, k, has_bias, plain)


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  bias: jax.Array | None,
  mask: jax.Array,
  implementation: str = "cudnn",
) -> jax.Array:
  """Attends as `attention.dot_product_attention` does without dropout.

  Args:
    query: bfloat16 (b, t, h, k).
    key: (b, s, h, k), like `query`.
    value: (b, s, h, k), like `query`.
    bias: float32 (h, t, s), or None; it is rounded to bfloat16.
    mask: bool (b, 1, t, s).
    implementation: of `jax.nn.dot_product_attention`; 'xla' computes the same anywhere.

  Returns:
    (b, t, h, k), like `query`; scores and softmax are float32.
  """
  if bias is not None:
    bias = bias[None].astype(query.dtype)
  return jax.nn.dot_product_attention(
    query, key, value, bias, mask, scale=1.0, implementation=implementation
  )


@functools.cache
def _tried(t: int, s: int, h: int, k: int, has_bias: bool, plain: Attend) -> bool:
  """Returns whether cuDNN takes a shape; says once where it does not."""
  try:
    error = deviation(t, s, h, k, has_bias, plain, attend)
  except (
    Exception
  ) as e:  # of many kinds: Python's checks, the compiler's, the library's
    reason = str(e).strip().partition("\n")[0] or repr(e)
  else:
    if error <= _TOLERANCE:
      return True
    reason = f"it deviates by {error:.2g} of the largest value"
  _log.warning(
    "cuDNN's attention is not used for %d queries, %d keys and %d heads of %d: %s."
    " XLA's takes its place; with t5.T5Config.fused_attention = False from the start.",
    *(t, s, h, k, reason),
  )
  return False


def deviation(
  t: int, s: int, h: int, k: int, has_bias: bool, plain: Attend, fused: Attend
) -> float:
  """Returns how far fused attention and its gradients are from the plain ones.

  Args:
    t: queries.
    s: keys.
    h: heads.
    k: width of a head.
    has_bias: whether with a bias.
    plain: attention of bfloat16.
    fused: the same, in one kernel.

  Returns:
    The largest difference, over the largest value of the same array.

  Raises:
    Exception: it cannot be computed so.
  """
  rng = np.random.default_rng(0)
  drawn = [rng.normal(size=(_ROWS, n, h, k)) for n in (t, s, s, t)]
  drawn[0] /= k**0.5
  query, key, value, back = (x.astype(jnp.bfloat16) for x in drawn)
  bias = rng.normal(size=(h, t, s)).astype(np.float32) if has_bias else None
  mask = rng.random((_ROWS, 1, t, s)) < 0.7
  mask[..., 0] = True
  # Padding, which sees nothing; no loss asks for it, but it must not give NaN.
  mask[-1, :, -1] = False
  back[-1, -1] = 0

  def run(attend):
    def made(query, key, value, bias, mask, back):
      floats = query, key, value, bias
      result, pull = jax.vjp(lambda *floats: attend(*floats, mask), *floats)
      return result, *pull(back)

    # Compiled apart, so that nothing of it is in what is being traced.
    arguments = query, key, value, bias, mask, back
    return jax.tree.leaves(jax.jit(made).lower(*arguments).compile()(*arguments))

  worst = 0.0
  for found, exact in zip(run(fused), run(plain), strict=True):
    found, exact = (np.asarray(x, np.float32) for x in (found, exact))
    worst = np.fmax(worst, np.abs(found - exact).max() / np.abs(exact).max())
    if not np.isfinite(found).all():
      return np.inf
  return float(worst)

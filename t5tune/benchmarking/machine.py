"""What the machine can do at best, measured like everything else."""

from typing import Any

import jax
import jax.numpy as jnp

from t5tune.benchmarking import measures

_CPU, _ACCELERATOR = 2048, 8192  # sides of square matrices
_COPIED_BYTES = 2**28  # more than any cache holds


def peaks(model: Any, rows: int) -> list[measures.Measure]:
  """Returns measures of the fastest matrix products and of reading memory.

  Args:
    model: the architecture, a `t5.T5Config`; products are of its dtype, and of the
      shapes of its MLP beside squares.
    rows: of the left side of these, tokens of a batch on a device.
  """
  side = _CPU if jax.default_backend() == "cpu" else _ACCELERATOR
  shapes = [
    (side, side, side),
    (rows, model.emb_dim, model.mlp_dim),
    (rows, model.mlp_dim, model.emb_dim),
  ]
  return [*(_matmul(shape, model.jax_dtype) for shape in shapes), _reading()]


def _matmul(shape: tuple[int, int, int], dtype) -> measures.Measure:
  m, k, n = shape
  keys = jax.random.split(jax.random.key(0))
  a = jax.random.normal(keys[0], (m, k), dtype)
  b = jax.random.normal(keys[1], (k, n), dtype)
  # As `models/products.py` multiplies: of bfloat16, the CPU is fast at no other result.
  product = jax.jit(lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32))
  name = f"{m:,} x {k:,} times {k:,} x {n:,}"
  cost = measures.Cost(flops=2 * m * k * n)
  return measures.Measure(name, "matmul", cost, lambda: product(a, b))


def _reading() -> measures.Measure:
  x = jnp.ones(_COPIED_BYTES // 4, jnp.float32)
  total = jax.jit(jnp.sum)
  cost = measures.Cost(read_bytes=_COPIED_BYTES)
  return measures.Measure("reading memory", "memory", cost, lambda: total(x))

"""Counts the matrix operations of a program, from its jaxpr.

XLA's own count takes the body of a loop once, however often it runs.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend import core

from t5tune.models import cpu_attention, gpu_attention

_FUSED = cpu_attention.PRODUCTS | gpu_attention.PRODUCTS


def of_jaxpr(jaxpr: core.Jaxpr | core.ClosedJaxpr) -> int:
  """Returns the floating point operations of a program's matrix products.

  A product of (m, k) and (k, n) counts 2 m k n. A scan's body counts as often as it
  runs, a while loop's once, of branches the most expensive. What nothing uses beside
  it counts nothing: no compiler keeps it.

  Args:
    jaxpr: the program, of whole arrays: shardings do not change the count.
  """
  jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
  used = {v for v in jaxpr.outvars if isinstance(v, core.Var)}
  count = 0
  for equation in reversed(jaxpr.eqns):
    if equation.effects or not used.isdisjoint(equation.outvars):
      used.update(v for v in equation.invars if isinstance(v, core.Var))
      count += _of_equation(equation)
  return count


def of_jitted(jitted: Any, *args: Any) -> int:
  """Returns the matrix operations of a jitted function on (abstract) arguments."""
  return of_jaxpr(jitted.trace(*args).jaxpr)


def _of_equation(equation) -> int:
  name, params = equation.primitive.name, equation.params
  if name == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    depth = math.prod(left[i] for i in contracted)
    return 2 * depth * math.prod(equation.outvars[0].aval.shape)
  fused = params["target_name"] if name == "ffi_call" else name
  if fused in _FUSED:
    (b, t, h, k), (_, s, *_) = (v.aval.shape for v in equation.invars[:2])
    return _FUSED[fused] * 2 * b * h * t * s * k
  counts = [of_jaxpr(inner) for inner in _jaxprs(params)]
  if name == "cond":
    return max(counts)
  return sum(counts) * (params["length"] if name == "scan" else 1)


def _jaxprs(params) -> Iterator[core.Jaxpr | core.ClosedJaxpr]:
  for value in jax.tree.leaves(params, is_leaf=_is_jaxpr):
    if _is_jaxpr(value):
      yield value


def _is_jaxpr(value: Any) -> bool:
  return isinstance(value, (core.Jaxpr, core.ClosedJaxpr))

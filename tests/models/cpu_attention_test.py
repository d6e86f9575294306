"""Fused attention is the plain one, in both dtypes and of any shape; so are its gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5tune import partitioning
from t5tune.models import attention, cpu_attention

ATOL = {"float32": 2e-6, "bfloat16": 1e-2}


@pytest.fixture(autouse=True)
def compiled():
  if not cpu_attention.usable(jnp.float32):
    pytest.skip("cpu_attention.cc cannot be compiled here")


plain = functools.partial(attention.dot_product_attention, fused=False)


def draw(b, t, s, h=2, k=8, dtype="float32"):
  """Returns query, key, value, bias, mask and what is pulled back."""
  rng = np.random.default_rng(b + t + s + h + k)
  shapes = (b, t, h, k), (b, s, h, k), (b, s, h, k), (b, t, h, k)
  query, key, value, back = (jnp.asarray(rng.normal(size=x), dtype) for x in shapes)
  bias = jnp.asarray(rng.normal(size=(h, t, s)), jnp.float32)
  segments = [np.sort(rng.integers(0, 4, (b, n))) for n in (t, s)]
  if t == s:
    segments[1] = segments[0]
  mask = attention.segment_mask(*map(jnp.asarray, segments), causal=t == s)
  return query / k**0.5, key, value, bias, mask, back


def results(attend, query, key, value, bias, mask, back):
  """Returns what attention gives, and the gradients of its floats."""

  def of_floats(*floats):
    return attend(*floats, mask)

  made, pull = jax.vjp(of_floats, query, key, value, bias)
  return made, *pull(back)


def check(found, exact, atol):
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    scale = 1e-6 + np.abs(b).max(initial=0)
    np.testing.assert_allclose(a / scale, b / scale, atol=atol)


# b, t, s, h, k
SHAPES = [
  (1, 1, 1, 1, 4),
  (2, 5, 7, 3, 64),
  (3, 16, 32, 2, 20),
  (9, 33, 33, 2, 7),
  (2, 37, 53, 1, 64),
  (2, 70, 515, 2, 20),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_plain_one(shape, dtype):
  inputs = draw(*shape, dtype=dtype)
  made = jax.jit(functools.partial(results, cpu_attention.attend))(*inputs)
  assert [x.dtype for x in made[:4]] == [dtype] * 4
  wide = [x if x.dtype == bool else x.astype(jnp.float32) for x in inputs]
  check(made, jax.jit(functools.partial(results, plain))(*wide), ATOL[dtype])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_without_a_bias(dtype):
  query, key, value, _, mask, back = draw(2, 9, 21, dtype=dtype)
  inputs = query, key, value, None, mask, back
  exact = [x if x is None or x.dtype == bool else x.astype(jnp.float32) for x in inputs]
  check(results(cpu_attention.attend, *inputs), results(plain, *exact), ATOL[dtype])


def test_a_bias_that_does_not_train_is_not_summed():
  query, key, value, bias, mask, _ = draw(2, 9, 21)
  loss = lambda attend, q, bias: jnp.sum(attend(q, key, value, bias, mask) ** 2)  # noqa: E731
  found, exact = (
    jax.grad(functools.partial(loss, attend))(query, bias)
    for attend in (cpu_attention.attend, plain)
  )
  check(found, exact, 1e-5)
  program = jax.make_jaxpr(jax.grad(functools.partial(loss, cpu_attention.attend)))
  assert "f32[0,0,0]" in str(program(query, bias))


def test_in_a_loop_and_made_again():
  query, key, value, bias, mask, _ = draw(2, 9, 9)

  def loss(attend, query):
    def layer(x, _):
      return attend(x, key, value, bias, mask), None

    return jnp.sum(jax.lax.scan(jax.checkpoint(layer), query, None, 3)[0] ** 2)

  found, exact = (
    jax.jit(jax.grad(functools.partial(loss, attend)))(query)
    for attend in (cpu_attention.attend, plain)
  )
  check(found, exact, 1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("which", range(4))
def test_what_is_not_finite_is_not_hidden(which, bad):
  inputs = list(draw(2, 9, 21))
  inputs[4] = jnp.ones_like(inputs[4])
  inputs[which] = inputs[which].at[(0,) * inputs[which].ndim].set(bad)
  made = results(cpu_attention.attend, *inputs)
  assert not all(bool(jnp.isfinite(x).all()) for x in made)


def test_many_at_once():
  # XLA may run several products at a time, on the threads that each would share.
  inputs = [draw(2, 20, 30 + i) for i in range(8)]
  run = lambda attend: jax.jit(lambda all: [results(attend, *x) for x in all])  # noqa: E731
  fused, exact = run(cpu_attention.attend), run(plain)(inputs)
  for _ in range(5):
    check(fused(inputs), exact, 1e-5)


def test_mapped_over_another_axis():
  *inputs, back = (jnp.stack(x) for x in zip(*[draw(2, 9, 9)] * 3, strict=True))
  inputs[0] = inputs[0] * jnp.arange(1.0, 4.0)[:, None, None, None, None]
  made, exact = (
    jax.vmap(functools.partial(results, attend))(*inputs, back)
    for attend in (cpu_attention.attend, plain)
  )
  check(made, exact, 1e-5)


@pytest.mark.parametrize("b,t,s", [(0, 4, 4), (2, 4, 0), (2, 0, 4)])
def test_of_nothing(b, t, s):
  inputs = draw(b, t, s)
  made = results(attention.dot_product_attention, *inputs)
  check(made, results(plain, *inputs), 0)


def test_other_shapes_and_dtypes_are_refused():
  query, key, value, bias, mask, _ = draw(2, 9, 21)
  for wrong in (
    (query, key, value, bias, mask[:1]),
    (query, key, value, bias[:1], mask),
    (query, key.astype(jnp.bfloat16), value, bias, mask),
  ):
    with pytest.raises(AssertionError):
      cpu_attention.attend(*wrong)


def test_what_is_left_to_xla():
  assert not cpu_attention.usable(jnp.float16)
  with jax.set_mesh(partitioning.make_mesh({"data": -1})):
    assert not cpu_attention.usable(jnp.float32)
  query, key, value, bias, mask, _ = draw(2, 9, 21)
  program = jax.make_jaxpr(plain)(query, key, value, bias, mask)
  assert "ffi_call" not in str(program)

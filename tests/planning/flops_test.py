"""Matrix operations are counted as they are run, loops included."""

import jax
import jax.numpy as jnp
import pytest

from t5tune import partitioning
from t5tune.models import cpu_attention, lora
from t5tune.planning import flops, programs
from tests.planning import plans


def count(function, *shapes) -> int:
  args = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]
  return flops.of_jitted(jax.jit(function), *args)


def test_products():
  assert count(lambda a, b: a @ b, (3, 5), (5, 7)) == 2 * 3 * 5 * 7
  batched = lambda a, b: jnp.einsum("bthk,bshk->bhts", a, b)  # noqa: E731
  assert count(batched, (2, 3, 4, 8), (2, 5, 4, 8)) == 2 * (2 * 4) * 3 * 5 * 8


def test_loops_and_branches():
  def scanned(x, w):
    return jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0]

  once = 2 * 3 * 4 * 4
  assert count(scanned, (3, 4), (6, 4, 4)) == 6 * once
  assert count(jax.vmap(scanned), (2, 3, 4), (2, 6, 4, 4)) == 2 * 6 * once
  branches = lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: x, lambda x: x @ x, x)  # noqa: E731
  assert count(branches, (4, 4)) == 2 * 4**3


def step_flops(**settings) -> int:
  run = plans.run_with(**settings)
  mesh = partitioning.make_mesh({}, jax.devices()[:1])
  step = programs.training_step(run, mesh, (64, 16), 10, 10)
  return flops.of_jaxpr(step.trace().jaxpr)


@pytest.mark.parametrize("fused", [False, True])
def test_a_training_step_by_hand(fused):
  if fused and not cpu_attention.usable(jnp.float32):
    pytest.skip("cpu_attention.cc cannot be compiled here")
  c, b, s, t = plans.MODEL, plans.RUN.batch_size, 64, 16
  attention = lambda q, k: 2 * b * 2 * q * k * c.emb_dim  # noqa: E731  scores, mixing
  kernels = lambda n: 2 * b * n * c.emb_dim  # noqa: E731
  mlp = lambda n: kernels(n) * 3 * c.mlp_dim  # noqa: E731
  encoder = kernels(s) * 4 * c.emb_dim + attention(s, s) + mlp(s)
  cross = 2 * (kernels(t) + kernels(s)) * c.emb_dim + attention(t, s)
  decoder = kernels(t) * 4 * c.emb_dim + attention(t, t) + cross + mlp(t)
  forward = 2 * encoder + 2 * decoder + kernels(t) * c.vocab_size
  # The backward pass costs twice the forward pass; the gradient of the bias, which is a
  # product with ones, and the recomputed norms next to nothing.
  # Fused attention makes the scores again.
  again = attention(s, s) + attention(t, t) + attention(t, s) if fused else 0
  expected = pytest.approx(3 * forward + again, rel=0.02)
  assert step_flops(fused_attention=fused) == expected


def test_the_count_does_not_depend_on_how_layers_are_run():
  scanned = step_flops()
  assert step_flops(layer_loop="unroll") == scanned
  assert step_flops(microbatches=4) == scanned
  assert scanned < step_flops(remat="dots") < step_flops(remat="full") < 1.4 * scanned


def test_lora_spares_the_gradients_of_the_kernels():
  factors = step_flops(lora=lora.LoraConfig(rank=2))
  assert 0.6 < factors / step_flops() < 0.8

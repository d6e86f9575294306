"""Attention by cuDNN: what can be known of it without a card, and with one."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5tune import partitioning
from t5tune.models import attention, gpu_attention
from t5tune.planning import flops

B, T, S, H, K = 2, 6, 8, 3, 16
by_xla = functools.partial(gpu_attention.attend, implementation="xla")
plain = functools.partial(attention.dot_product_attention, fused=False)
NO_GPU = jax.default_backend() != "gpu"


@pytest.fixture
def cudnn(monkeypatch):
  """Has jax believe in cuDNN, as far as to the program for it."""
  from jax._src.cudnn import fused_attention_stablehlo

  found = lambda: 91_000  # noqa: E731
  monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", found)


def abstract(with_bias: bool):
  shape = jax.ShapeDtypeStruct
  query, key = (shape((B, n, H, K), jnp.bfloat16) for n in (T, S))
  bias = shape((H, T, S), jnp.float32) if with_bias else None
  return query, key, key, bias, shape((B, 1, T, S), bool)


def gradients(query, key, value, bias, mask):
  def loss(*floats):
    return jnp.sum(gpu_attention.attend(*floats, mask).astype(jnp.float32))

  which = (0, 1, 2, 3) if bias is not None else (0, 1, 2)
  return jax.value_and_grad(loss, which)(query, key, value, bias)


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("sizes", [(6, 8), (8, 8), (33, 70)])
def test_what_cudnn_is_asked_for_is_the_plain_attention(sizes, has_bias):
  error = gpu_attention.deviation(*sizes, H, K, has_bias, plain, by_xla)
  assert 0 < error < 0.02


@pytest.mark.parametrize("has_bias", [True, False])
def test_a_hidden_row_attends_alike_to_all(has_bias):
  query, key, value, bias, mask = (
    x and jnp.ones(x.shape, x.dtype) for x in abstract(has_bias)
  )
  value = value * jnp.arange(S)[:, None, None].astype(value.dtype)
  made = by_xla(query, key, value, bias, ~mask)
  np.testing.assert_allclose(made.astype(np.float32), (S - 1) / 2, rtol=1e-2)


@pytest.mark.parametrize("has_bias", [True, False])
def test_the_program_is_cudnns_with_all_gradients(cudnn, has_bias):
  lowered = (
    jax.jit(gradients).trace(*abstract(has_bias)).lower(lowering_platforms=("cuda",))
  )
  text = lowered.as_text()
  assert text.count("@__cudnn$fmhaScaleBiasSoftmax(") == 1
  assert text.count("@__cudnn$fmhaScaleBiasSoftmaxBackward(") == 1
  backward = next(line for line in text.splitlines() if "SoftmaxBackward(" in line)
  results = backward.rpartition("->")[2]
  assert f"tensor<{B}x{H if has_bias else 1}x{T}x{S}xbf16>" in results


def test_its_products_are_counted(cudnn):
  jaxpr = jax.make_jaxpr(gradients)(*abstract(True))
  assert flops.of_jaxpr(jaxpr) == 7 * 2 * B * H * T * S * K


@pytest.mark.parametrize("wrong", ["value", "bias gradient", "nan", "refused"])
def test_what_deviates_or_is_refused_is_not_used(monkeypatch, caplog, wrong):
  def attend(query, key, value, bias, mask):
    if wrong == "refused":
      raise NotImplementedError("The head dim must be a multiple of 8.\nAnd more.")
    if wrong == "bias gradient":  # as cuDNN has left it out
      bias = jax.lax.stop_gradient(bias)
    made = by_xla(query, key, value, bias, mask)
    return made * {"value": 1.2, "nan": jnp.nan}.get(wrong, 1)

  inputs = [jnp.zeros(x.shape, x.dtype) for x in abstract(True)]
  monkeypatch.setattr(partitioning, "on_one_gpu", lambda: True)
  monkeypatch.setattr(gpu_attention, "attend", attend)
  used = []

  def program(query, key, _):  # asked while it is traced, as by a model
    used.append(gpu_attention.usable(query, key, True, plain))
    return query

  for number in range(2):
    jax.make_jaxpr(program, static_argnums=2)(*inputs[:2], number)
  assert used == [False, False]
  assert len(caplog.messages) == 1
  told = "multiple of 8.. XLA's" if wrong == "refused" else "deviates by"
  assert re.search(told, caplog.text) and "fused_attention" in caplog.text
  gpu_attention._tried.cache_clear()


def test_a_model_attends_by_it(monkeypatch):
  monkeypatch.setattr(partitioning, "on_one_gpu", lambda: True)
  monkeypatch.setattr(partitioning, "on_one_cpu_device", lambda: False)
  seen = []

  def attend(*arrays):
    seen.append(arrays[0].shape)
    return by_xla(*arrays)

  monkeypatch.setattr(gpu_attention, "attend", attend)
  rng = np.random.default_rng(0)
  query, key, value = (rng.normal(size=(B, T, H, K)) for _ in range(3))
  bias, mask = rng.normal(size=(H, T, T)), np.ones((B, 1, T, T), bool)
  for dtype, expected in ((jnp.bfloat16, [(B, T, H, K)]), (jnp.float32, [])):
    seen.clear()
    inputs = [jnp.asarray(x, dtype) for x in (query, key, value)]
    attended = attention.dot_product_attention
    made = attended(*inputs, jnp.asarray(bias, jnp.float32), mask)
    exact = attended(*inputs, jnp.asarray(bias, jnp.float32), mask, fused=False)
    np.testing.assert_allclose(
      made.astype(np.float32), exact.astype(np.float32), atol=3e-2
    )
    assert [shape for shape in seen if shape[0] == B][-1:] == expected
  gpu_attention._tried.cache_clear()


@pytest.mark.skipif(NO_GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(
  "sizes", [(512, 512, 12, 64), (128, 128, 12, 64), (128, 512, 6, 64)]
)
def test_cudnn_on_a_card(sizes, has_bias):
  error = gpu_attention.deviation(*sizes, has_bias, plain, gpu_attention.attend)
  assert error < 0.05

"""LoRA in the model: it starts at the base, and equals the kernels merged with it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5tune import errors, partitioning
from t5tune.models import layers, lora, t5
from t5tune.training import parameter_groups, train_state
from tests.models import tiny_t5

EVERY_KERNEL = ("query", "key", "value", "out", "wi_0", "wi_1", "wo")
LORA = lora.LoraConfig(rank=3, alpha=6.0, targets=EVERY_KERNEL)
CONFIG = dataclasses.replace(
  tiny_t5.CONFIG, num_encoder_layers=1, layer_loop="scan", lora=LORA
)
BATCH = tiny_t5.pack([[e] for e in tiny_t5.examples([(9, 7), (4, 5)])], 9, 7)


@functools.cache
def model(**changes) -> train_state.Model:
  return train_state.Model(dataclasses.replace(CONFIG, **changes))


@functools.cache
def forward(**changes):
  """Returns the compiled logits of a model, with or without a key for dropout."""
  return tiny_t5.forward(model(**changes))


def drawn(of=None):
  """Returns parameters in which every term matters, as sensible as trained ones."""

  def soften(name, x):
    scale = 0.1 if name.endswith("lora_b") else 1.0
    return x * (8**-0.5 if name.endswith("query/kernel") else scale)

  flat = parameter_groups.flatten(tiny_t5.params(of or model()))
  return parameter_groups.merge({n: soften(n, x) for n, x in flat.items()}, {})


@functools.cache
def initialised(**changes):
  """Returns a model's own first parameters."""
  return tiny_t5.jit(model(**changes).init)(jax.random.key(0))


def base(params):
  keep = lambda name: not parameter_groups.is_lora_factor(name)  # noqa: E731
  return parameter_groups.select(params, keep)


def merged(params, config=LORA):
  """Returns the parameters of the model without LoRA that computes the same."""
  flat = parameter_groups.flatten(params)
  for name in [n for n in flat if n.endswith("/lora_a")]:
    module = name.removesuffix("lora_a")
    kernels = [flat.pop(f"{module}{part}") for part in ("kernel", *lora.FACTORS)]
    flat[f"{module}kernel"] = lora.merge(*kernels, config)
  return parameter_groups.merge(flat, {})


def assert_close(found, wanted, tolerance=2e-6):
  """Compares arrays relative to the largest value."""
  scale = np.abs(wanted).max()
  np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * scale)


def test_training_starts_at_the_base():
  params, plain = initialised(), initialised(lora=None)
  jax.tree.map(np.testing.assert_array_equal, base(params), plain)
  found = forward()(params, BATCH)
  wanted = forward(lora=None)(plain, BATCH)
  np.testing.assert_array_equal(found, wanted)


def test_factors_are_drawn_as_peft_does():
  flat = parameter_groups.flatten(initialised())
  factors = {n: x for n, x in flat.items() if parameter_groups.is_lora_factor(n)}
  assert len(factors) == 2 * (4 + 3 + 8 + 3)  # the layers of a stack are one
  drawn = []
  for name, factor in factors.items():
    kernel = flat[name.rpartition("/")[0] + "/kernel"]
    if name.endswith("lora_b"):
      assert factor.shape == (len(kernel), 3, kernel.shape[2]) and not factor.any()
    else:
      assert factor.shape == (*kernel.shape[:2], 3)
      drawn.append(np.asarray(factor * kernel.shape[1] ** 0.5).ravel())
  drawn = np.concatenate(drawn)
  assert np.abs(drawn).max() <= 1 and len(np.unique(drawn)) > 0.99 * len(drawn)
  assert abs(drawn.std() - 3**-0.5) < 0.01 and abs(drawn.mean()) < 0.04


@pytest.mark.parametrize(
  "form, loop", [("FLAN", "scan"), ("FLAN", "unroll"), ("1.0", "scan")]
)
def test_it_equals_the_merged_kernels(form, loop):
  changes = {"layer_loop": loop}
  if form == "1.0":
    targets = ("query", "out", "wi", "wo")
    changes |= {"mlp_activations": ("relu",), "logits_via_embedding": True}
    changes["lora"] = dataclasses.replace(LORA, targets=targets)
  params = drawn(model(**changes))
  found = forward(**changes)(params, BATCH)
  alone = {**changes, "lora": None}
  wanted = forward(**alone)(merged(params), BATCH)
  assert_close(found, wanted)
  without = forward(**alone)(base(params), BATCH)
  assert np.abs(found - without).max() > 0.1 * np.abs(wanted).max()


def test_bfloat16_stays_near_float32():
  params = drawn()
  exact = forward()(params, BATCH)
  rounded = forward(dtype="bfloat16")(params, BATCH)
  alone = forward(dtype="bfloat16", lora=None)(merged(params), BATCH)
  assert np.abs(rounded - exact).mean() < 2 * np.abs(alone - exact).mean()


def test_only_targets_get_factors():
  narrow = model(lora=lora.LoraConfig(rank=2, targets=("wo", "value")))
  flat = parameter_groups.flatten(narrow.param_specs())
  modules = {n.split("/")[-2] for n in flat if parameter_groups.is_lora_factor(n)}
  assert modules == {"wo", "value"}
  assert not any("logits_dense/lora" in name for name in flat)
  assert model(lora=lora.LoraConfig(rank=0)).config == model(lora=None).config


def test_decoding_step_by_step_equals_teacher_forcing():
  params = drawn()

  def decode(params, batch):
    module = model().merge(params)
    inputs = batch["encoder_input_tokens"], batch["encoder_segment_ids"]
    step, cache = module.start_decoding(
      module.encode(*inputs), batch["encoder_segment_ids"], max_length=7
    )
    logits = []
    for t in range(7):
      found, cache = step(batch["decoder_input_tokens"][:, t : t + 1], t, cache)
      logits.append(found)
    return jnp.concatenate(logits, axis=1)

  wanted = forward()(params, BATCH)
  found = tiny_t5.jit(decode)(params, BATCH)
  inside = BATCH["decoder_segment_ids"] > 0
  assert_close(found[inside], wanted[inside])


@pytest.mark.parametrize("mesh", [{"data": 2, "fsdp": 4}, {"fsdp": 2, "tensor": 4}])
def test_it_is_sharded_with_its_kernel(mesh):
  mesh = partitioning.make_mesh(mesh)
  params, places = drawn(), model().abstract_params(mesh)
  attention = places["encoder"]["layers"]["attention"]
  for module, (row, column) in {"query": (1, 2), "out": (2, 1)}.items():
    axes = (None, "fsdp", "tensor")
    axes = [a if a and mesh.shape[a] > 1 else None for a in axes]
    found = {k: tuple(v.sharding.spec) for k, v in attention[module].items()}
    assert found["lora_a"] == (None, axes[row], None)
    assert found["lora_b"] == (None, None, axes[column])
  placed = jax.tree.map(lambda x, p: jax.device_put(x, p.sharding), params, places)
  rows = jax.tree.map(lambda x: np.concatenate([x] * 4), BATCH)
  with jax.set_mesh(mesh):
    found = forward()(placed, rows)
  assert_close(found, forward()(params, rows))


def test_dropout_is_of_the_factors_alone():
  config = dataclasses.replace(LORA, rank=2, dropout_rate=0.4)
  dense = layers.Dense(
    (6, 5),
    ("embed", "mlp"),
    jax.nn.initializers.normal(),
    jnp.float32,
    nnx.Rngs(0),
    config,
  )
  x = jax.random.normal(jax.random.key(1), (3, 6))
  keys = jax.random.split(jax.random.key(2), 4000)
  apply = jax.jit(lambda: jax.vmap(lambda key: dense(x, key))(keys))
  np.testing.assert_allclose(dense(x), x @ dense.kernel[...], rtol=1e-6)
  np.testing.assert_allclose(apply()[7], x @ dense.kernel[...], rtol=1e-6)
  dense.lora_b[...] = jax.random.normal(jax.random.key(3), (2, 5))
  found = jax.vmap(lambda key: dense(x, key))(keys)
  assert np.abs(found[0] - found[1]).max() > 0.1
  assert np.abs(found.mean(0) - dense(x)).max() < 0.1  # unbiased
  # In a model the rest of it drops what it drops without LoRA's dropout.
  assert lora.dropout_keys(LORA, keys[0], 2) == [keys[0], None, None]
  bits = map(jax.random.bits, lora.dropout_keys(config, keys[0], 2))
  assert len({int(x) for x in bits}) == 3


def test_a_model_drops_only_in_training():
  dropped = model(lora=dataclasses.replace(LORA, dropout_rate=0.5))
  params = drawn(dropped)
  apply = tiny_t5.forward(dropped)
  still = apply(params, BATCH)
  np.testing.assert_array_equal(still, forward()(params, BATCH))
  one, two = (apply(params, BATCH, jax.random.key(i)) for i in range(2))
  assert np.abs(one - two).max() > 0.1 and np.abs(one - still).max() > 0.1
  at_base = initialised()  # zeros hide what is dropped
  found = apply(at_base, BATCH, jax.random.key(0))
  assert_close(found, apply(at_base, BATCH))


@pytest.mark.parametrize(
  "changes, words",
  [
    ({"rank": -1}, "LORA_RANK = -1: give a positive rank, or 0 for no LoRA"),
    ({"alpha": 0.0}, "LORA_ALPHA = 0.0: it must be above 0"),
    ({"alpha": float("inf")}, "LORA_ALPHA = inf"),
    ({"dropout_rate": 1.0}, r"lora.LoraConfig.dropout_rate = 1.0: .* \[0, 1\)"),
    ({"targets": ()}, "LORA_TARGETS is empty"),
    ({"targets": ("querry",)}, "no kernel of .* Did you mean 'query'"),
    ({"targets": ("q",)}, "'query' is what PEFT calls 'q'"),
    ({"targets": ("wi",)}, "'wi', which is no kernel .* There is: .*, wi_0, wi_1, wo"),
  ],
)
def test_settings_that_cannot_be(changes, words):
  with pytest.raises(errors.UserError, match=words):
    t5.T5Config(
      **{**vars(tiny_t5.CONFIG), "lora": lora.LoraConfig(**{"rank": 2, **changes})}
    )


def test_alpha_is_rank_where_it_is_not_given():
  assert lora.LoraConfig(rank=8).scale == 1.0
  assert lora.LoraConfig(rank=8, alpha=4).scale == 0.5

"""Properties of the whole model: padding, packing, layer loops, T5 1.0."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5tune import errors
from t5tune.models import layers, t5
from t5tune.training import train_state
from tests.models import tiny_t5

LENGTHS = [(9, 6), (3, 2), (8, 7), (5, 3), (1, 1)]
EXAMPLES = tiny_t5.examples(LENGTHS)
MODEL = train_state.Model(tiny_t5.CONFIG)
PARAMS = tiny_t5.params(MODEL)


@pytest.fixture(scope="module")
def logits():
  return tiny_t5.forward(MODEL)


@pytest.fixture(scope="module")
def alone(logits):
  """Each example's logits (t, v), from a row of its own."""
  rows = logits(PARAMS, tiny_t5.pack([[e] for e in EXAMPLES], 9, 7))
  return [np.asarray(row[:t]) for row, (_, t) in zip(rows, LENGTHS, strict=True)]


def test_logits_differ_between_examples_and_positions(alone):
  # What the tests below compare is no constant.
  every = np.concatenate(alone)
  assert np.unique(every.round(3), axis=0).shape == every.shape
  assert np.ptp(every, axis=1).min() > 1


def test_longer_padding_changes_nothing(logits, alone):
  padded = logits(PARAMS, tiny_t5.pack([[e] for e in EXAMPLES], 14, 12))
  for row, expected in zip(padded, alone, strict=True):
    np.testing.assert_allclose(row[: len(expected)], expected, atol=2e-5)


def test_tokens_under_padding_are_never_seen(logits, alone):
  batch = tiny_t5.pack([[e] for e in EXAMPLES], 9, 7)
  for stack in ("encoder_input", "decoder_input"):
    segments = batch[f"{stack.split('_')[0]}_segment_ids"]
    batch[f"{stack}_tokens"][segments == 0] = 77
  for row, expected in zip(logits(PARAMS, batch), alone, strict=True):
    np.testing.assert_array_equal(row[: len(expected)], expected)


def test_later_targets_are_never_seen(logits):
  batch = tiny_t5.pack([[e] for e in EXAMPLES], 9, 7)
  before = logits(PARAMS, batch)
  batch["decoder_input_tokens"][0, 4] = 99
  after = logits(PARAMS, batch)
  np.testing.assert_array_equal(after[0, :4], before[0, :4])
  assert np.all(np.any(after[0, 4:6] != before[0, 4:6], axis=-1))


def test_packed_examples_are_as_if_alone(logits, alone):
  order = [[0, 1, 2], [4, 3]]
  rows = [[EXAMPLES[i] for i in row] for row in order]
  packed = logits(PARAMS, tiny_t5.pack(rows, 22, 16))
  for row, members in zip(packed, order, strict=True):
    start = 0
    for i in members:
      stop = start + LENGTHS[i][1]
      np.testing.assert_allclose(row[start:stop], alone[i], atol=2e-5)
      start = stop


def value_and_gradients(config: t5.T5Config):
  """A loss with dropout, which all variants must draw alike, and its gradients."""
  model = train_state.Model(config)
  batch = tiny_t5.pack([[e] for e in EXAMPLES], 9, 7)

  def loss(params):
    logits = tiny_t5.logits(model, params, batch, jax.random.key(0))
    chosen = jax.nn.one_hot(batch["decoder_target_tokens"], tiny_t5.VOCAB)
    weights = batch["decoder_loss_weights"][..., None]
    return -jnp.sum(jax.nn.log_softmax(logits) * chosen * weights)

  params = tiny_t5.params(model)
  return jax.device_get(tiny_t5.jit(jax.value_and_grad(loss))(params))


@pytest.fixture(scope="module")
def unrolled():
  config = dataclasses.replace(
    tiny_t5.CONFIG, num_encoder_layers=1, dropout_rate=0.1, layer_loop="unroll"
  )
  return config, value_and_gradients(config)


@pytest.mark.parametrize(
  "change", [{"remat": "dots"}, {"layer_loop": "scan", "remat": "full"}], ids=str
)
def test_how_layers_are_run_changes_no_gradient(unrolled, change):
  config, (loss, expected) = unrolled
  found_loss, found = value_and_gradients(dataclasses.replace(config, **change))
  assert found_loss == pytest.approx(loss, rel=1e-6)
  for (path, a), b in zip(
    jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(found), strict=True
  ):
    scale = np.abs(a).max()
    assert scale > 1e-3, f"{path} has no gradient to compare"
    np.testing.assert_allclose(b, a, atol=1e-5 * scale, err_msg=str(path))


@pytest.mark.parametrize(
  "loop,remat,unrolls",
  [("auto", "none", True), ("auto", "full", False), ("unroll", "full", True)],
)
def test_on_the_cpu_layers_are_unrolled_where_memory_is_not_asked_for(
  loop, remat, unrolls
):
  config = dataclasses.replace(tiny_t5.CONFIG, layer_loop=loop, remat=remat)
  assert config.unroll == unrolls


def test_dropout_is_drawn_from_its_key_alone(alone):
  model = train_state.Model(dataclasses.replace(tiny_t5.CONFIG, dropout_rate=0.1))
  logits = tiny_t5.forward(model)
  batch = tiny_t5.pack([[e] for e in EXAMPLES], 9, 7)
  first = logits(PARAMS, batch, jax.random.key(0))
  np.testing.assert_array_equal(first, logits(PARAMS, batch, jax.random.key(0)))
  second = logits(PARAMS, batch, jax.random.key(1))
  weights = batch["decoder_loss_weights"] > 0
  assert np.all(np.any(first != second, axis=-1)[weights])
  np.testing.assert_allclose(logits(PARAMS, batch)[0, :6], alone[0], atol=2e-5)


def test_t5_1_0_has_one_activation_and_scaled_tied_logits():
  config = dataclasses.replace(
    tiny_t5.CONFIG, mlp_activations=("relu",), logits_via_embedding=True
  )
  model = train_state.Model(config)
  params = tiny_t5.params(model)
  for stack in ("encoder", "decoder"):
    assert params[stack]["layers"]["mlp"].keys() == {"wi", "wo"}
  assert "logits_dense" not in params["decoder"]
  module = model.merge(params)
  hidden = np.random.default_rng(0).normal(size=(2, 3, 32)).astype(np.float32)
  expected = hidden @ params["token_embedder"]["embedding"].T / np.sqrt(32)
  np.testing.assert_allclose(module.logits(hidden), expected, atol=1e-5)
  mlp = layers.MlpBlock(config, nnx.Rngs(0))
  expected = np.maximum(hidden @ mlp.wi.kernel[...], 0) @ mlp.wo.kernel[...]
  np.testing.assert_allclose(mlp(hidden, None), expected, atol=1e-5)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters():
  config = dataclasses.replace(tiny_t5.CONFIG, dtype="bfloat16")
  model = train_state.Model(config)
  specs = jax.eval_shape(model.init, jax.random.key(0))
  assert {x.dtype for x in jax.tree.leaves(specs)} == {jnp.dtype("float32")}
  batch = tiny_t5.pack([[e] for e in EXAMPLES], 9, 7)
  encoded = jax.eval_shape(
    lambda p: model.merge(p).encode(
      batch["encoder_input_tokens"], batch["encoder_segment_ids"]
    ),
    specs,
  )
  assert encoded.dtype == "bfloat16"
  logits = jax.eval_shape(tiny_t5.forward(model), specs, batch)
  assert logits.dtype == "float32" and logits.shape == (5, 7, tiny_t5.VOCAB)


def test_vocabulary_size_is_padded_as_t5s_own():
  config = dataclasses.replace(tiny_t5.CONFIG, vocab_size=None)
  assert t5.pad_vocab_size(config, 32_100).vocab_size == 32_128
  assert t5.pad_vocab_size(config, 256).vocab_size == 256
  assert t5.pad_vocab_size(tiny_t5.CONFIG, 100).vocab_size == 128
  with pytest.raises(errors.UserError, match="vocab_size = 128.* 129 ids"):
    t5.pad_vocab_size(tiny_t5.CONFIG, 129)


@pytest.mark.parametrize(
  "change", [{"num_heads": 0}, {"dropout_rate": 1.0}, {"mlp_activations": ()}], ids=str
)
def test_an_impossible_architecture_is_named(change):
  with pytest.raises(errors.UserError, match=f"T5Config.{next(iter(change))}"):
    dataclasses.replace(tiny_t5.CONFIG, **change)


def test_float16_is_refused_with_the_reason():
  with pytest.raises(errors.UserError, match="'float16'.*overflow.*'bfloat16'"):
    dataclasses.replace(tiny_t5.CONFIG, dtype="float16")

"""One update: logits, loss, gradients, optimiser."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from t5tune import partitioning
from t5tune.training import losses
from t5tune.training.train_state import Model, TrainState

Batch = dict[str, Any]


def batch_loss(
  model: Model,
  params,
  batch: Batch,
  dropout_key: jax.Array | None,
  z_loss: float = 0.0,
  label_smoothing: float = 0.0,
) -> losses.LossSums:
  """Runs the model on a batch and sums its loss.

  Args:
    model: the model.
    params: its parameters.
    batch: int32 arrays `encoder_input_tokens`, `encoder_segment_ids` (b, s),
      `decoder_input_tokens`, `decoder_target_tokens`, `decoder_segment_ids`
      (b, t) and float32 `decoder_loss_weights` (b, t).
    dropout_key: PRNG key for training, None for evaluation.
    z_loss: coefficient of the z-loss.
    label_smoothing: share of the target distribution spread over all tokens.
  """
  batch = {k: partitioning.constrain(x, "batch", "length") for k, x in batch.items()}
  logits = model.merge(params)(
    batch["encoder_input_tokens"],
    batch["decoder_input_tokens"],
    batch["encoder_segment_ids"],
    batch["decoder_segment_ids"],
    dropout_key,
  )
  targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
  return losses.loss_sums(logits, targets, weights, z_loss, label_smoothing)


def make_train_step(
  model: Model,
  optimizer: optax.GradientTransformation,
  z_loss: float = 0.0,
  microbatches: int = 1,
  label_smoothing: float = 0.0,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, dict]]:
  """Returns `train_step(state, batch, dropout_key) -> (state, metrics)`.

  The loss is the sum of token losses over the number of target tokens of the
  whole batch, whatever the packing, the padding, the mesh or the number of
  microbatches.

  Args:
    model: the model.
    optimizer: its optimiser.
    z_loss: coefficient of the z-loss.
    microbatches: parts a batch is cut into, one after the other, to save memory.
    label_smoothing: share of the target distribution spread over all tokens.
  """

  def gradients(params, batch, key, tokens):
    def loss(params):
      sums = batch_loss(model, params, batch, key, z_loss, label_smoothing)
      return sums.objective / tokens, sums

    return jax.grad(loss, has_aux=True)(params)

  def accumulated_gradients(params, batch, key, tokens):
    # Row r goes to microbatch r % microbatches: every device keeps its own rows.
    parts = jax.tree.map(
      lambda x: x.reshape(-1, microbatches, *x.shape[1:]).swapaxes(0, 1), batch
    )
    keys = jax.random.split(key, microbatches)
    add = lambda total, part: jax.tree.map(jnp.add, total, part)  # noqa: E731
    first = gradients(params, jax.tree.map(lambda x: x[0], parts), keys[0], tokens)
    rest = (jax.tree.map(lambda x: x[1:], parts), keys[1:])
    body = lambda total, x: (add(total, gradients(params, *x, tokens)), None)  # noqa: E731
    return jax.lax.scan(body, first, rest)[0]

  def train_step(state, batch, dropout_key):
    key = jax.random.fold_in(dropout_key, state.step)
    # A batch without a single target token must not divide by zero.
    tokens = jnp.maximum(jnp.sum(batch["decoder_loss_weights"]), 1.0)
    compute = gradients if microbatches == 1 else accumulated_gradients
    grads, sums = compute(state.params, batch, key, tokens)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {
      "loss": sums.nll / tokens,
      "z_loss": sums.z_loss / tokens,
      "accuracy": sums.correct / tokens,
      "grad_norm": optax.global_norm(grads),
      "target_tokens": sums.tokens,
    }
    return TrainState(state.step + 1, params, opt_state), metrics

  return train_step

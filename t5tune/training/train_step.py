"""One update: logits, loss, gradients, optimiser."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from t5tune import partitioning
from t5tune.training import losses, optimizers, parameter_groups
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
  optimizer: optimizers.Optimizer,
  z_loss: float = 0.0,
  microbatches: int = 1,
  label_smoothing: float = 0.0,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, dict]]:
  """Returns `train_step(state, batch, dropout_key) -> (state, metrics)`.

  The loss is the sum of token losses over the number of target tokens of the
  whole batch, whatever the packing, the padding, the mesh or the number of
  microbatches.

  Where the loss or a gradient is not finite, only the step changes: parameters, the
  optimiser's state and the average stay as they are, bit by bit. That is known before
  the update is: nothing waits for the norm of the whole update, for then all of it
  would be held twice. So an `update_norm` that is not finite, as a learning rate out of
  all range makes it, has spoilt the parameters.

  `metrics` are float32 scalars: `loss`, `z_loss` and `accuracy`, means over target
  tokens; `grad_norm` before clipping; `update_norm`, of what was to be added to the
  parameters; `learning_rate`; `target_tokens`; `finite`, 1.0 or 0.0. And
  `grad_squares`: name of a parameter that trains -> sum of the squares of its gradient,
  a scalar or, of a stack, (l,). A gradient whose squares overflow is not finite.

  Args:
    model: the model.
    optimizer: its optimiser.
    z_loss: coefficient of the z-loss.
    microbatches: parts a batch is cut into, one after the other, to save memory.
    label_smoothing: share of the target distribution spread over all tokens.
  """
  axes = jax.tree.map(lambda s: s.axes, optimizer.trainable(model.param_specs()))

  def gradients(trainable, params, batch, key, tokens):
    def loss(trainable):
      merged = optimizer.merge(params, trainable)
      sums = batch_loss(model, merged, batch, key, z_loss, label_smoothing)
      return sums.objective / tokens, sums

    grads, sums = jax.grad(loss, has_aux=True)(trainable)
    # Laid out like the parameters at once: summed over the batch's shards and
    # scattered, so that no device ever holds the gradients of the whole model.
    return jax.tree.map(lambda g, a: partitioning.constrain(g, *a), grads, axes), sums

  def accumulated_gradients(trainable, params, batch, key, tokens):
    # Row r goes to microbatch r % microbatches: every device keeps its own rows.
    parts = jax.tree.map(
      lambda x: x.reshape(-1, microbatches, *x.shape[1:]).swapaxes(0, 1), batch
    )

    def add(total, part):
      found = gradients(trainable, params, *part, tokens)
      return jax.tree.map(jnp.add, total, found), None

    zeros = jax.tree.map(jnp.zeros_like, (trainable, losses.LossSums.zeros()))
    return jax.lax.scan(add, zeros, (parts, jax.random.split(key, microbatches)))[0]

  def train_step(state, batch, dropout_key):
    key = jax.random.fold_in(dropout_key, state.step)
    # A batch without a single target token must not divide by zero.
    tokens = jnp.maximum(jnp.sum(batch["decoder_loss_weights"]), 1.0)
    compute = gradients if microbatches == 1 else accumulated_gradients
    trainable = optimizer.trainable(state.params)
    grads, sums = compute(trainable, state.params, batch, key, tokens)
    squares = _squares(grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, trainable, state.step)
    moved = jax.tree.map(jnp.add, trainable, updates)
    average = optimizer.averaged(state.average, moved, state.step)
    metrics = {
      "loss": sums.nll / tokens,
      "z_loss": sums.z_loss / tokens,
      "accuracy": sums.correct / tokens,
      "grad_norm": _norm(squares),
      "update_norm": _norm(_squares(updates)),
      "learning_rate": jnp.asarray(optimizer.schedule(state.step), jnp.float32),
      "target_tokens": sums.tokens,
    }
    finite = jnp.isfinite(sums.objective) & jnp.isfinite(metrics["grad_norm"])
    opt_state = _where(finite, opt_state, state.opt_state)
    average = _where(finite, average, state.average)
    params = optimizer.merge(state.params, _where(finite, moved, trainable))
    metrics |= {"finite": finite.astype(jnp.float32), "grad_squares": squares}
    return TrainState(state.step + 1, params, opt_state, average), metrics

  return train_step


def _squares(tree) -> dict[str, jax.Array]:
  """Returns name -> sum of squares, of each layer where a parameter is a stack."""

  def squares(name, x):
    first = 1 if parameter_groups.is_stacked(name) else 0
    return jnp.sum(jax.lax.square(x), axis=tuple(range(first, x.ndim)))

  flat = parameter_groups.flatten(tree)
  return {name: squares(name, x) for name, x in sorted(flat.items())}


def _where(condition: jax.Array, new, old):
  """Returns one of two trees."""
  return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _norm(squares: dict[str, jax.Array]) -> jax.Array:
  """Returns the global norm of what these are the squares of."""
  return jnp.sqrt(sum(jnp.sum(x) for x in squares.values()))

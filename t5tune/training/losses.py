"""The loss of a batch, in sums, so that any split of a batch adds up to the same."""

import dataclasses

import jax
import jax.numpy as jnp

from t5tune.models import largest


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossSums:
  """Sums over the target tokens of a batch; float32 scalars.

  Attributes:
    nll: negative log likelihood, in nats.
    z_loss: the z-loss, already times its coefficient.
    smoothing: what label smoothing adds to `nll`.
    correct: number of tokens that were the most likely one.
    tokens: number of target tokens (the sum of the loss weights).
  """

  nll: jax.Array
  z_loss: jax.Array
  smoothing: jax.Array
  correct: jax.Array
  tokens: jax.Array

  @classmethod
  def zeros(cls) -> "LossSums":
    """Returns the sums over no tokens."""
    return cls(*(jnp.zeros(()) for _ in dataclasses.fields(cls)))

  @property
  def objective(self) -> jax.Array:
    """What training minimises, summed over tokens."""
    return self.nll + self.z_loss + self.smoothing


def token_losses(
  logits: jax.Array, targets: jax.Array, z_loss: float = 0.0
) -> tuple[jax.Array, jax.Array]:
  """Returns each token's cross entropy and z-loss.

  The z-loss, `z_loss * logsumexp(logits)**2`, keeps logits from drifting away
  from zero; as in T5X's `cross_entropy_with_logits`.

  Args:
    logits: float32 (b, t, v).
    targets: int32 (b, t).
    z_loss: coefficient; T5X uses 1e-4.

  Returns:
    Two float32 arrays (b, t): negative log likelihood and z-loss.
  """
  log_z = jax.nn.logsumexp(logits, axis=-1)
  chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  return log_z - chosen, z_loss * jax.lax.square(log_z)


def token_smoothing(
  logits: jax.Array, targets: jax.Array, label_smoothing: float
) -> jax.Array:
  """Returns what label smoothing adds to each token's cross entropy.

  The target distribution gives `label_smoothing` of its mass to all tokens alike, the
  target among them (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7;
  Hugging Face's `LabelSmoother`). T5X spreads it over the other tokens only and
  subtracts the entropy, a constant.

  Args:
    logits: float32 (b, t, v).
    targets: int32 (b, t).
    label_smoothing: the share, 0 to 1.

  Returns:
    float32 (b, t): `label_smoothing * (mean of -log p - (-log p of the target))`.
  """
  chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  return label_smoothing * (chosen - jnp.mean(logits, axis=-1))


def loss_sums(
  logits: jax.Array,
  targets: jax.Array,
  weights: jax.Array,
  z_loss: float = 0.0,
  label_smoothing: float = 0.0,
) -> LossSums:
  """Sums `token_losses` and `token_smoothing` over a batch.

  Args:
    logits: float32 (b, t, v).
    targets: int32 (b, t).
    weights: float32 (b, t), 0 at padding.
    z_loss: coefficient of the z-loss.
    label_smoothing: share of the target distribution spread over all tokens.
  """
  nll, z = token_losses(logits, targets, z_loss)
  correct = largest.argmax(logits) == targets
  return LossSums(
    nll=jnp.sum(nll * weights),
    z_loss=jnp.sum(z * weights),
    smoothing=jnp.sum(token_smoothing(logits, targets, label_smoothing) * weights)
    if label_smoothing
    else jnp.zeros(()),
    correct=jnp.sum(correct * weights),
    tokens=jnp.sum(weights),
  )

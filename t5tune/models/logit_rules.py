"""Rules of decoding: which tokens may not come next, whatever the model thinks."""

import dataclasses

import jax
import jax.numpy as jnp

from t5tune import errors

EOS_ID = 1


@dataclasses.dataclass(frozen=True)
class LogitRules:
  """What may not be decoded. The defaults forbid nothing.

  Attributes:
    min_length: tokens before which a sequence may not end (Hugging Face:
      `min_new_tokens`).
    no_repeat_ngram: n, where no n tokens in a row may come a second time (Hugging Face:
      `no_repeat_ngram_size`); 0 to allow it.
  """

  min_length: int = 0
  no_repeat_ngram: int = 0

  def __post_init__(self):
    for name, value in vars(self).items():
      if type(value) is not int or value < 0:
        raise errors.UserError(
          f"logit_rules.LogitRules.{name} = {value!r}: it must be an integer, at least 0."
        )

  def __call__(
    self, logits: jax.Array, outputs: jax.Array, position: jax.Array
  ) -> jax.Array:
    """Returns logits with -inf at the tokens that may not come next.

    Args:
      logits: float32 (b, v), of the token at `position`.
      outputs: int32 (b, t), tokens decoded so far, before `position`.
      position: int32 scalar.
    """
    if self.min_length:
      ends = jnp.arange(logits.shape[-1]) == EOS_ID
      logits = jnp.where(ends & (position < self.min_length), -jnp.inf, logits)
    if self.no_repeat_ngram:
      logits = _without_repeats(logits, outputs, position, self.no_repeat_ngram)
    return logits


NONE = LogitRules()


def _without_repeats(logits, outputs, position, n: int) -> jax.Array:
  """Forbids what would make the last n tokens equal to n earlier ones.

  The decoder's first input counts as a token, as it does for Hugging Face.
  """
  outputs, position = jnp.pad(outputs, ((0, 0), (1, 0))), position + 1
  length = outputs.shape[1]
  starts = length - n + 1  # where n tokens may begin
  if starts < 1:
    return logits
  # The n-1 tokens before `position`; where there are fewer, nothing is forbidden.
  last = jax.lax.dynamic_slice_in_dim(outputs, position - n + 1, n - 1, axis=1)
  alike = jnp.arange(starts) + n - 1 < position
  alike = jnp.broadcast_to(alike, (len(outputs), starts))
  for k in range(n - 1):
    alike &= outputs[:, k : k + starts] == last[:, k : k + 1]
  then = outputs[:, n - 1 :]  # what followed them
  rows = jnp.arange(len(outputs))[:, None]
  return logits.at[rows, then].min(jnp.where(alike, -jnp.inf, jnp.inf))

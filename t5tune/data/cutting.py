"""Cutting: an input that is too long loses part of one field, never its instruction."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from t5tune.errors import UserError, did_you_mean

PLACES = ("end", "start", "middle")
_GAP = " ... "  # what stands for the part that was cut out of the middle


@dataclasses.dataclass(frozen=True)
class Cut:
  """Where a task's inputs are cut when they are too long.

  Attributes:
    field: the row's field that gives way.
    place: the part of it that is cut off: 'end', 'start' or 'middle'.
  """

  field: str
  place: str = "end"

  def __post_init__(self):
    if self.place not in PLACES:
      raise UserError(
        f"Cut({self.field!r}, {self.place!r}): cut one of {', '.join(PLACES)}."
        f"{did_you_mean(self.place, PLACES)}"
      )


@dataclasses.dataclass(frozen=True)
class Budget:
  """What a text must fit into.

  Attributes:
    tokens: most tokens, the end of sequence not counted.
    vocabulary: the `seqio.Vocabulary` that counts them.
  """

  tokens: int
  vocabulary: Any

  @classmethod
  def of(cls, sequence_length, output_features, name: str) -> "Budget | None":
    """Returns a feature's budget from SeqIO's arguments; None where there is none."""
    length = (sequence_length or {}).get(name)
    if length is None or not output_features:
      return None
    feature = output_features[name]
    return cls(length - feature.add_eos, feature.vocabulary)

  def spare(self, text: str) -> int:
    """Returns how many tokens are left beside a text; negative where it is too long."""
    return self.tokens - len(self.vocabulary.encode(text))


class Shortener:
  """Cuts one field of the inputs that are too long, in a dataset's map."""

  def __init__(
    self, cut: Cut, templates: Sequence[Any], fields: Sequence[str], budget: Budget
  ):
    """Remembers what is cut.

    Args:
      cut: the field and the place.
      templates: the task's templates.
      fields: the fields that they name.
      budget: what the inputs must fit into.
    """
    self._cut, self._budget = cut, budget
    self._templates, self._fields = templates, fields

  def __call__(
    self, inputs: tf.Tensor, drawn: tf.Tensor, values: Sequence[tf.Tensor]
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the inputs, cut where needed, and how many tokens that took away.

    Args:
      inputs: string scalar, the filled template.
      drawn: int32 scalar, the template's number.
      values: string scalars, the fields' texts.
    """
    length = tf.size(self._budget.vocabulary.encode_tf(inputs))

    def cut():
      made = tf.numpy_function(self._shorten, [drawn, *values], tf.string)
      made = tf.ensure_shape(made, [])
      return made, length - tf.size(self._budget.vocabulary.encode_tf(made))

    return tf.cond(
      length > self._budget.tokens, cut, lambda: (inputs, tf.zeros_like(length))
    )

  def _shorten(self, drawn, *values) -> bytes:
    texts = {
      name: value.decode() for name, value in zip(self._fields, values, strict=True)
    }
    template = self._templates[int(drawn)]
    return shortened(template, texts, self._cut, self._budget.spare).encode()


def shortened(
  template: Any,
  texts: Mapping[str, str],
  cut: Cut,
  spare: Callable[[str], int],
) -> str:
  """Returns a template's inputs with as much of one field as fits.

  Args:
    template: the template.
    texts: the fields' texts.
    cut: the field and the place.
    spare: tokens left beside a text, negative where it is too long.

  Returns:
    The text. Words stay whole, unless not even one fits. Where nothing of the field
    fits, or the template does not show it, all of it: it is then cut at its end.
  """
  if cut.field not in template.fields("inputs"):
    return template.render("inputs", texts)
  # Words with the space behind them; characters, where not one word fits.
  words = re.findall(r"\s*\S+\s*", texts[cut.field])
  for parts in (words, list(texts[cut.field])):
    if made := _longest(template, texts, cut, parts, spare):
      return made
  return template.render("inputs", texts)


def _longest(template, texts, cut: Cut, words: Sequence[str], spare) -> str | None:
  """Returns the inputs with as many of a field's words as fit, None if none does."""

  def made(kept: int) -> str:
    field = _kept(words, kept, cut.place)
    return template.render("inputs", {**texts, cut.field: field})

  fits, too_many = 0, len(words)
  while too_many - fits > 1:
    middle = (fits + too_many) // 2
    if spare(made(middle)) >= 0:
      fits = middle
    else:
      too_many = middle
  # One word more seldom takes fewer tokens, so the bisection may end one beside it.
  while fits and spare(made(fits)) < 0:
    fits -= 1
  return made(fits) if fits else None


def _kept(words: Sequence[str], count: int, place: str) -> str:
  """Returns the text of some of a field's words."""
  if place == "start":
    return "".join(words[len(words) - count :])
  if place == "end" or count < 2:  # no room for two parts and the gap
    return "".join(words[:count]).rstrip()
  head = (count + 1) // 2
  tail = words[len(words) - (count - head) :]
  return "".join(words[:head]).rstrip() + _GAP + "".join(tail)

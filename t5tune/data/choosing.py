"""Choosing: which of a task's templates a row takes in a pass."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from t5tune.data import cutting, drawing
from t5tune.errors import UserError

# Outcomes of the draw that shares rows out among tags.
_SHARES = 1_000_000


def fitting(templates: Sequence[Any], budget: cutting.Budget | None):
  """Returns the function that says whether a row's text fits an inverted template.

  A target that is cut short teaches to stop in the middle. What a task asks for fits
  as a rule, what it is asked for may not.

  Args:
    templates: the task's templates.
    budget: what the targets must fit into; None for no limit.

  Returns:
    (template's number, filled targets) -> bool scalar.
  """
  inverted = tf.constant(["inverted" in t.tags for t in templates])
  if budget is None or drawing.current().evaluation:
    return lambda number, targets: tf.constant(True)

  def fits(number, targets):
    return tf.cond(
      tf.gather(inverted, number),
      lambda: tf.size(budget.vocabulary.encode_tf(targets)) <= budget.tokens,
      lambda: tf.constant(True),
    )

  return fits


def chooser(templates: Sequence[Any], shares: Mapping[str, float]):
  """Returns the function from a row's key to the numbers of two templates.

  The first is drawn by the shares; the second stands in for one that does not fit.

  Args:
    templates: the task's templates.
    shares: tag -> share of the rows that take a template with this tag.

  Raises:
    UserError: no template is left to draw.
  """
  setting = drawing.current()
  if setting.evaluation:
    names = [t.name for t in templates]
    number = names.index(setting.template) if setting.template else 0
    return lambda row_key: (tf.constant(number), tf.constant(number))
  groups = list(_groups(templates, shares))
  drawable = [i for _, numbers in groups for i in numbers]
  fitting_ones = [i for i in drawable if "inverted" not in templates[i].tags]
  limits = np.cumsum([share for share, _ in groups]) * _SHARES
  limits = tf.constant(limits[:-1].round().astype(np.int32))

  def choose(row_key):
    drawn = [_turn(row_key, numbers) for _, numbers in groups]
    share = drawing.row_draw(row_key, _SHARES, "tag")
    group = tf.reduce_sum(tf.cast(share >= limits, tf.int32))
    number = tf.gather(tf.stack(drawn), group)
    return number, _turn(row_key, fitting_ones) if fitting_ones else number

  return choose


def total(shares: Iterable[float]) -> float:
  """Returns the sum of shares, 1 where only rounding keeps it from that."""
  found = math.fsum(shares)
  return 1.0 if math.isclose(found, 1) else found


def _groups(
  templates: Sequence[Any], shares: Mapping[str, float]
) -> Iterator[tuple[float, list[int]]]:
  """Yields the share of the rows that take one of some templates, and these."""
  held_out = drawing.current().held_out
  drawn = [i for i, t in enumerate(templates) if not t.is_called(held_out)]
  if not drawn:
    raise UserError(
      f"HELD_OUT_TEMPLATES = {list(held_out)}: no template is left to train on of"
      f" {', '.join(t.name for t in templates)}."
    )
  tagged = {
    tag: [i for i in drawn if tag in templates[i].tags]
    for tag, share in shares.items()
    if share > 0
  }
  others = [i for i in drawn if not templates[i].is_called(list(shares))]
  wanted = total(shares[tag] for tag, numbers in tagged.items() if numbers)
  if not others and not wanted:
    raise UserError(
      f"HELD_OUT_TEMPLATES = {list(held_out)}: the templates that are left have a share"
      f" of 0 of the rows: {', '.join(templates[i].name for i in drawn)}."
    )
  scale = 1.0 if others else 1 / wanted  # none is left but those with shares
  for tag, numbers in tagged.items():
    if numbers:
      yield shares[tag] * scale, numbers
  if others and wanted < 1:
    yield 1 - wanted, others


def _turn(row_key: tf.Tensor, numbers: Sequence[int]) -> tf.Tensor:
  """Draws one of some templates: uniform in each pass, and each once in n passes."""
  n = len(numbers)
  turn, step = divmod(drawing.current().pass_index, n)
  drawn = (drawing.row_draw(row_key, n, "template", turn) + step) % n
  return tf.gather(tf.constant(numbers, tf.int32), drawn)

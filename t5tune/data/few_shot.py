"""Few-shot: some rows show exemplars from the training split before their question.

As in the FLAN collection (Longpre et al. 2023, https://arxiv.org/abs/2301.13688), a
model is trained on zero and on few exemplars. An exemplar takes the template of the row
that it stands before.
"""

import dataclasses
import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from t5tune.data import drawing, row_dataset
from t5tune.data.cutting import Budget
from t5tune.errors import UserError

_SHARES = 1_000_000
# Most rows that exemplars are drawn from: they are held in memory.
_POOL = 4096


@dataclasses.dataclass(frozen=True)
class Shots:
  """How many exemplars rows show.

  Attributes:
    most: a row that shows any shows 1 to this many, as far as they fit.
    share: share of the rows that show any.
    source: the task's source, whose training split the exemplars come from.
    preprocessors: the steps of the task before its templates are filled in.
  """

  most: int
  share: float
  source: Any = None
  preprocessors: tuple[Any, ...] = ()

  def __post_init__(self):
    if not isinstance(self.most, int) or self.most < 1 or not 0 <= self.share <= 1:
      raise UserError(
        f"Shots(most={self.most}, share={self.share}): give at least 1 exemplar and a"
        " share of the rows between 0 and 1."
      )


class Exemplars:
  """The training rows that exemplars are drawn from, and the draw."""

  def __init__(
    self,
    shots: Shots,
    templates: Sequence[Any],
    fields: Sequence[str],
    asked: Sequence[str],
    budget: Budget | None,
  ):
    """Reads the rows.

    Args:
      shots: how many, and from where.
      templates: the task's templates.
      fields: the fields that they name.
      asked: the fields of the first template's inputs.
      budget: what the inputs must fit into; None for no limit.
    """
    self._shots, self._templates, self._budget = shots, templates, budget
    # Taken now: a draw inside a map happens outside the block that sets the pass.
    self._salt = drawing.salt("shots")
    dataset = shots.source.get_dataset("train", shuffle=False)
    for step in shots.preprocessors:
      dataset = step(dataset)
    self._pool = _texts(dataset, fields, asked)

  def add(
    self,
    inputs: tf.Tensor,
    drawn: tf.Tensor,
    row_key: tf.Tensor,
    content_key: tf.Tensor,
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the inputs behind the exemplars drawn for the row, and their number.

    Args:
      inputs: string scalar, the filled template.
      drawn: int32 scalar, the template's number.
      row_key: int64 scalar.
      content_key: int64 scalar; no exemplar has the same.
    """

    def with_exemplars():
      given = [inputs, drawn, row_key, content_key]
      text, count = tf.numpy_function(self._compose, given, [tf.string, tf.int32])
      return tf.ensure_shape(text, []), tf.ensure_shape(count, [])

    limit = round(self._shots.share * _SHARES)
    shows = drawing.row_draw(row_key, _SHARES, "few-shot") < limit
    return tf.cond(shows, with_exemplars, lambda: (inputs, tf.constant(0)))

  def _compose(self, inputs, drawn, row_key, content_key):
    template = self._templates[int(drawn)]
    draw = drawing.generator(int(row_key), self._salt)
    wanted = draw.randint(1, self._shots.most + 1)
    pool, chosen = self._pool, []
    # The query and its duplicates are passed over: a few more than wanted will do.
    for i in draw.permutation(len(pool))[: wanted + 8]:
      key, values = pool[i]
      if key != int(content_key) and len(chosen) < wanted:
        chosen.append(values)
    query = inputs.decode()
    shown = [
      f"{template.render('inputs', v)}\n{template.render('targets', v)}\n\n"
      for v in chosen
    ]
    while shown and self._budget and self._budget.spare("".join(shown) + query) < 0:
      shown.pop()
    text = "".join(shown) + query
    return np.array(text.encode(), object), np.int32(len(shown))


def _texts(
  dataset: tf.data.Dataset, fields: Sequence[str], asked: Sequence[str]
) -> list[tuple[int, dict[str, str]]]:
  """Returns the rows with the smallest keys, at most `_POOL`: the same in any order."""

  def keep(row):
    return {
      "row_key": row["row_key"],
      "content_key": row_dataset.content_key(row, asked),
      "texts": tf.stack([row_dataset.as_text(row[f]) for f in fields]),
    }

  kept: list[tuple[int, int, list[bytes]]] = []
  batches = dataset.map(keep, num_parallel_calls=tf.data.AUTOTUNE).batch(512)
  for batch in batches.as_numpy_iterator():  # a row at a time takes ten times as long
    columns = (batch[name].tolist() for name in ("row_key", "content_key", "texts"))
    kept = heapq.nsmallest(_POOL, [*kept, *zip(*columns, strict=True)])
  return [
    (key, {f: text.decode() for f, text in zip(fields, texts, strict=True)})
    for _, key, texts in kept
  ]

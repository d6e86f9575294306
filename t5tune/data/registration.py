"""Registration: a task as its data, its templates and its scores, in one call.

What it registers is an ordinary `seqio.Task`, so T5X or anyone else can use it. A user
may as well call `seqio.TaskRegistry.add`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import seqio

from t5tune.data import cutting, few_shot, preprocessors, templates, vocabularies
from t5tune.errors import UserError


def add(
  name: str,
  source: seqio.DataSource,
  forms: Sequence[templates.Template],
  *,
  steps: Sequence[Callable] = (),
  shares: Mapping[str, float] | None = None,
  cut: cutting.Cut | None = None,
  shots: few_shot.Shots | None = None,
  escape: bool = False,
  postprocess_fn: Callable | None = None,
  metric_fns: Sequence[Callable] = (),
) -> seqio.Task:
  """Registers a templated task.

  Args:
    name: the task's name.
    source: where its rows come from, such as `sources.RowSource`.
    forms: its templates; the first is the canonical one, used in evaluation.
    steps: preprocessors that tidy the rows before a template is filled in.
    shares: tag -> share of the rows that take a template with this tag, such as
      {'inverted': 0.1}; the other rows take one without any of these tags.
    cut: where an input that is too long is cut; by default at its end.
    shots: exemplars from the training split before some of the rows.
    escape: whether characters that the vocabulary lacks are written in an escaped form
      (`escape.py`), on both sides.
    postprocess_fn: from a model's output to what the metrics compare.
    metric_fns: the metrics; the first one's first score is the headline.

  Returns:
    The task.

  Raises:
    UserError: a template names a field that the rows lack, or the arguments of
      `templates.fill` do not fit together.
  """
  steps = tuple(steps)
  if shots:
    shots = dataclasses.replace(shots, source=source, preprocessors=steps)
  try:
    fill = templates.fill(forms, shares, cut, shots)
    known = _kinds(source, steps)
    if known is not None:
      templates.check_fields(forms, known)
  except UserError as error:
    raise UserError(f"task {name!r}: {error}") from error
  return seqio.TaskRegistry.add(
    name,
    source=source,
    preprocessors=[
      *steps,
      fill,
      seqio.preprocessors.tokenize,
      seqio.preprocessors.append_eos_after_trim,
    ],
    output_features=vocabularies.output_features(escape=escape),
    postprocess_fn=postprocess_fn,
    metric_fns=list(metric_fns),
  )


def _kinds(
  source: seqio.DataSource, steps: Sequence[Callable]
) -> dict[str, Any] | None:
  """Returns the kinds of the rows' fields before templates; None where unknown.

  Known are the fields of our own sources and what our own preprocessors add. Others
  are checked when the task's dataset is first built.
  """
  schema = getattr(source, "schema", None)
  if schema is None:
    return None
  kinds = dict(schema.kinds)
  for step in steps:
    added = preprocessors.added_fields(step)
    if added is None:
      return None
    kinds |= added
  return kinds

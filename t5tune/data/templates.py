"""Templates as data: the first step from a task's rows to its text.

A template is an instruction with `{field}` placeholders. `fill` draws one per row.
A draw follows from (row key, pass, seed) and nothing else, never from a row's place
in the stream, so any number of readers builds the same examples. In as many passes as a
task has templates, a row meets each of them once.
"""

import contextlib
import contextvars
import dataclasses
import functools
import hashlib
import string
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from t5tune.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Template:
  """One way of putting a row to the model.

  Attributes:
    name: unique among a task's templates; recorded with every example.
    inputs: the encoder's text, with `{field}` placeholders for text or integer
      fields of the row; `{{` and `}}` stand for braces.
    targets: the decoder's text, in the same form.
    tags: free labels for reports.
  """

  name: str
  inputs: str
  targets: str
  tags: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Drawing:
  pass_index: int
  seed: int
  first: bool


_DEFAULT = _Drawing(pass_index=0, seed=0, first=False)
_DRAWING = contextvars.ContextVar("drawing", default=_DEFAULT)


@contextlib.contextmanager
def drawing(pass_index: int = 0, seed: int = 0) -> Iterator[None]:
  """Sets the pass and seed of every draw in datasets built inside the block.

  Args:
    pass_index: which of a task's passes is built; epochs read different passes.
    seed: the run's data seed.

  Yields:
    Nothing; outside any block, draws are those of pass 0 and seed 0.
  """
  token = _DRAWING.set(_Drawing(int(pass_index), int(seed), first=False))
  try:
    yield
  finally:
    _DRAWING.reset(token)


@contextlib.contextmanager
def first() -> Iterator[None]:
  """Makes `fill` use the first template for every row: the form evaluation takes.

  Other draws (`row_draw`) are then those of pass 0 and seed 0.

  Yields:
    Nothing.
  """
  token = _DRAWING.set(dataclasses.replace(_DEFAULT, first=True))
  try:
    yield
  finally:
    _DRAWING.reset(token)


def row_draw(row_key: tf.Tensor, n: int, purpose: str) -> tf.Tensor:
  """Draws an integer for a row, for use inside a stochastic preprocessor's map.

  The pass and seed are those of the enclosing `drawing` block at the time the
  dataset is built.

  Args:
    row_key: int64 scalar, the row's `row_key` feature.
    n: number of outcomes, a Python int or int32 scalar above 0.
    purpose: names the draw; draws for different purposes are independent.

  Returns:
    int32 scalar, uniform in [0, n).
  """
  context = _DRAWING.get()
  return _draw(row_key, n, purpose, context.pass_index, context.seed)


def _draw(
  row_key: tf.Tensor, n: int, purpose: str, pass_index: int, seed: int
) -> tf.Tensor:
  salt = hashlib.blake2b(f"{purpose}/{pass_index}/{seed}".encode(), digest_size=8)
  salt = int.from_bytes(salt.digest(), signed=True)
  # Philox by name: the algorithm picked automatically depends on the device.
  return tf.random.stateless_uniform(
    [],
    seed=tf.stack([row_key, tf.constant(salt, tf.int64)]),
    minval=0,
    maxval=n,
    dtype=tf.int32,
    alg="philox",
  )


def _template_draw(row_key: tf.Tensor, n: int) -> tf.Tensor:
  """Draws a row's template: uniform in each pass, and each once in n passes."""
  context = _DRAWING.get()
  if context.first:
    return tf.constant(0)
  turn, step = divmod(context.pass_index, n)
  return (_draw(row_key, n, "template", turn, context.seed) + step) % n


def fill(templates: Sequence[Template]):
  """Returns a SeqIO preprocessor that puts each row into one drawn template.

  Rows gain `inputs`, `targets` and `template` (its name); all other features pass
  through. Needs the `row_key` that the sources of `t5tune.data.sources` add, or
  `preprocessors.add_row_key`.

  Args:
    templates: at least one; the first is the canonical one, used in evaluation.

  Returns:
    A `functools.partial` from dataset to dataset.

  Raises:
    UserError: no templates, a name given twice, or a malformed placeholder; and,
      when the dataset is built, a field that the rows lack.
  """
  templates = tuple(templates)
  if not templates:
    raise UserError("templates.fill was given no templates: give it at least one.")
  seen = set()
  for template in templates:
    if template.name in seen:
      raise UserError(
        f"Template name {template.name!r} is given twice: names tell templates"
        " apart in predictions and reports, so rename one."
      )
    seen.add(template.name)
    for part in ("inputs", "targets"):
      _parse(template, part)
  return functools.partial(fill_templates, templates=templates)


def fill_templates(
  dataset: tf.data.Dataset, templates: tuple[Template, ...]
) -> tf.data.Dataset:
  """Draws and formats a template for each row; see `fill`, which checks them.

  Args:
    dataset: rows with a `row_key` and the fields the templates name.
    templates: the checked templates.

  Returns:
    The dataset with `inputs`, `targets` and `template` added.

  Raises:
    UserError: a template names a field the rows lack, or one that is a list.
  """
  spec = dataset.element_spec
  if "row_key" not in spec:
    raise UserError(
      "Rows have no 'row_key', from which templates are drawn. Read them with"
      " t5tune.data.sources.RowSource, or put preprocessors.add_row_key before"
      " templates.fill."
    )
  fields = _used_fields(templates, spec)
  literals, pieces = _tables(templates, fields)
  names = [template.name for template in templates]

  def format_row(row):
    drawn = _template_draw(row["row_key"], len(templates))
    texts = tf.stack([*literals, *(_as_text(row[field]) for field in fields)])
    filled = tf.strings.reduce_join(
      tf.gather(texts, tf.gather(tf.constant(pieces), drawn)), axis=1
    )
    inputs, targets = tf.unstack(filled, num=2)
    template = tf.gather(tf.constant(names), drawn)
    return {**row, "inputs": inputs, "targets": targets, "template": template}

  return dataset.map(format_row, num_parallel_calls=tf.data.AUTOTUNE)


def _as_text(value: tf.Tensor) -> tf.Tensor:
  return value if value.dtype == tf.string else tf.strings.as_string(value)


def _parse(template: Template, part: str) -> list[tuple[str, str | None]]:
  """Returns a template's (literal text, field that follows or None) pairs."""
  where = f"Template {template.name!r}, {part}"
  try:
    parsed = list(string.Formatter().parse(getattr(template, part)))
  except ValueError as error:
    raise UserError(
      f"{where}: {error}. Write fields as {{field}} and a brace as {{{{ or }}}}."
    ) from error
  for _, field, spec, conversion in parsed:
    if field is not None and (not field.isidentifier() or spec or conversion):
      raise UserError(
        f"{where}: placeholder {{{field}}} is not a plain field name. Write"
        " {field} without index, format or conversion."
      )
  return [(literal, field) for literal, field, _, _ in parsed]


def _used_fields(templates: Sequence[Template], spec) -> list[str]:
  """Returns the fields that templates name, checked against a dataset's features."""
  usable = {
    name
    for name, feature in spec.items()
    if isinstance(feature, tf.TensorSpec)
    and feature.shape.rank == 0
    and (feature.dtype == tf.string or feature.dtype.is_integer)
  }
  used = []
  for template in templates:
    for part in ("inputs", "targets"):
      for _, field in _parse(template, part):
        if field is None or field in used:
          continue
        if field not in spec:
          raise UserError(
            f"Template {template.name!r}, {part}: the rows have no field"
            f" {field!r}.{did_you_mean(field, usable)} Fields that can be"
            f" filled in: {', '.join(sorted(usable))}."
          )
        if field not in usable:
          raise UserError(
            f"Template {template.name!r}, {part}: field {field!r} is not one text"
            " or integer. Turn it into a text in a preprocessor before"
            " templates.fill."
          )
        used.append(field)
  return used


def _tables(
  templates: Sequence[Template], fields: Sequence[str]
) -> tuple[list[str], np.ndarray]:
  """Lays templates out as numbers, so that formatting a row is two lookups.

  Args:
    templates: the templates.
    fields: the fields they name.

  Returns:
    The literal texts of all templates; and for each template, its inputs' and its
    targets' pieces, (templates, 2, pieces) int32. A number below the count of
    literals stands for one of them, a number from there on for a field's value.
  """
  parsed = [_parse(t, part) for t in templates for part in ("inputs", "targets")]
  # The empty text fills up the shorter templates: number 0.
  literals = sorted({""} | {literal for pieces in parsed for literal, _ in pieces})
  numbered = []
  for pieces in parsed:
    numbers = []
    for literal, field in pieces:
      numbers.append(literals.index(literal))
      if field is not None:
        numbers.append(len(literals) + fields.index(field))
    numbered.append(numbers)
  table = np.zeros((len(parsed), max(1, *map(len, numbered))), np.int32)
  for row, numbers in zip(table, numbered, strict=True):
    row[: len(numbers)] = numbers
  return literals, table.reshape(len(templates), 2, -1)

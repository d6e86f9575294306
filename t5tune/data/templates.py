"""Templates as data: the first step from a task's rows to its text.

A template is an instruction with `{field}` placeholders, written beside its task and
tagged. `fill` draws one per row, anew in every pass (`drawing.py`); in as many passes
as a task has templates of equal standing, a row meets each of them once. An input that
is too long is cut where the task says (`cutting.py`); some rows show exemplars first
(`few_shot.py`).
"""

import dataclasses
import functools
import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from t5tune.data import (
  choosing,
  cutting,
  drawing,
  few_shot,
  preprocessors,
  row_dataset,
)
from t5tune.errors import UserError, did_you_mean

PARTS = ("inputs", "targets")
_TOKENIZING = ("tokenize", "append_eos", "append_eos_after_trim")


@dataclasses.dataclass(frozen=True)
class Template:
  """One way of putting a row to the model.

  Attributes:
    name: unique among a task's templates; recorded with every example.
    inputs: the encoder's text, with `{field}` placeholders for text or integer
      fields of the row; `{{` and `}}` stand for braces.
    targets: the decoder's text, in the same form.
    tags: what kind of template this is: 'forward', 'inverted' (asks for the input,
      given the target), 'length-limited', 'bare' (no instruction), or any other.
  """

  name: str
  inputs: str
  targets: str
  tags: tuple[str, ...] = ("forward",)

  def __post_init__(self):
    if isinstance(self.tags, str):
      raise UserError(
        f"Template {self.name!r}: tags = {self.tags!r} is one text. Write"
        f" ({self.tags!r},), with a comma."
      )
    if "/" in self.name:
      raise UserError(
        f"Template {self.name!r}: a name has no '/', which stands between a task and"
        " its template. Write '_'."
      )

  def pieces(self, part: str) -> list[tuple[str, str | None]]:
    """Returns (literal text, field that follows or None) pairs of a part.

    Args:
      part: 'inputs' or 'targets'.

    Raises:
      UserError: a placeholder is malformed.
    """
    where = f"Template {self.name!r}, {part}"
    try:
      parsed = list(string.Formatter().parse(getattr(self, part)))
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

  def fields(self, *parts: str) -> list[str]:
    """Returns the fields that parts name, in order."""
    named = [field for part in parts for _, field in self.pieces(part)]
    return list(dict.fromkeys(field for field in named if field is not None))

  def render(self, part: str, values: Mapping[str, str]) -> str:
    """Returns a part with its fields filled in.

    Args:
      part: 'inputs' or 'targets'.
      values: text of each field.
    """
    pieces = self.pieces(part)
    return "".join(text + (values[name] if name else "") for text, name in pieces)

  def is_called(self, names: Sequence[str]) -> bool:
    """Returns whether its name or one of its tags is among some names."""
    return self.name in names or any(tag in names for tag in self.tags)


def fill(
  templates: Sequence[Template],
  shares: Mapping[str, float] | None = None,
  cut: cutting.Cut | None = None,
  shots: few_shot.Shots | None = None,
):
  """Returns a SeqIO preprocessor that puts each row into one drawn template.

  Rows gain `inputs`, `targets`, `template` (its name) and `content_key` (a hash of
  what the first template's inputs show of the row); all other features pass through.
  Needs the `row_key` that the sources of `t5tune.data.sources` add, or
  `preprocessors.add_row_key`.

  Args:
    templates: at least one; the first is the canonical one, used in evaluation.
    shares: tag -> share of the rows that take a template with this tag; the other
      rows take one without any of these tags, as do rows whose text is too long for
      the targets of an 'inverted' template.
    cut: where an input that is too long is cut; by default at its end.
    shots: exemplars shown before some of the rows; by default none.

  Returns:
    A `functools.partial` from dataset to dataset.

  Raises:
    UserError: no templates, a name given twice, a malformed placeholder, shares that
      do not fit; and, when the dataset is built, a field that the rows lack.
  """
  given = [templates] if isinstance(templates, Template) else [*templates]
  for one in given:
    if not isinstance(one, Template):
      raise UserError(
        f"templates.fill was given {one!r}, which is no template. Write"
        " Template('name', inputs, targets)."
      )
  templates = tuple(given)
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
    template.fields(*PARTS)
  shares = dict(shares or {})
  _check_shares(templates, shares)
  if cut and not any(cut.field in t.fields("inputs") for t in templates):
    known = sorted({f for t in templates for f in t.fields("inputs")})
    raise UserError(
      f"cut: no template has the field {cut.field!r} in its inputs."
      f"{did_you_mean(cut.field, known)} They have: {', '.join(known)}."
    )
  return functools.partial(
    fill_templates, templates=templates, shares=shares, cut=cut, shots=shots
  )


def _check_shares(templates: Sequence[Template], shares: Mapping[str, float]) -> None:
  tags = {tag for t in templates for tag in t.tags}
  for tag, share in shares.items():
    if tag not in tags:
      raise UserError(
        f"shares: no template has the tag {tag!r}.{did_you_mean(tag, tags)} There is:"
        f" {', '.join(sorted(tags))}."
      )
    if not isinstance(share, int | float) or not 0 <= share <= 1:
      raise UserError(f"shares: {tag!r} has {share}; give a share between 0 and 1.")
  total = choosing.total(shares.values())
  if total > 1:
    raise UserError(f"shares: {shares} add up to more than 1.")
  if total < 1 and all(t.is_called(list(shares)) for t in templates):
    raise UserError(
      f"shares: every template has one of the tags {', '.join(shares)}, so that the"
      " other rows have none to take. Let the shares add up to 1, or add a template."
    )


def of_task(task: Any) -> tuple[Template, ...]:
  """Returns the templates of a `seqio.Task`, () where it does not use `fill`."""
  for step in task._preprocessor_constructor_args:  # SeqIO wraps the public ones
    if getattr(step, "func", None) is fill_templates:
      return step.keywords["templates"]
  return ()


def draws_nothing_else(task: Any) -> bool:
  """Returns whether nothing but the template of a `seqio.Task` can be drawn.

  Args:
    task: a task with templates.
  """
  for step in task._preprocessor_constructor_args:
    name = getattr(getattr(step, "func", step), "__name__", "")
    if getattr(step, "func", None) is fill_templates:
      if step.keywords["shots"]:
        return False
    elif getattr(step, "keywords", {}).get("shuffle"):
      return False
    elif preprocessors.added_fields(step) is None and name not in _TOKENIZING:
      return False
  return True


def fill_templates(
  dataset: tf.data.Dataset,
  sequence_length: Mapping[str, int] | None = None,
  output_features: Mapping[str, Any] | None = None,
  *,
  templates: tuple[Template, ...],
  shares: Mapping[str, float],
  cut: cutting.Cut | None,
  shots: few_shot.Shots | None,
) -> tf.data.Dataset:
  """Draws and formats a template for each row; see `fill`, which checks them.

  Args:
    dataset: rows with a `row_key` and the fields the templates name.
    sequence_length: SeqIO's; the input's is what a cut and exemplars fit into.
    output_features: SeqIO's; its vocabulary counts the tokens.
    templates: the checked templates.
    shares: tag -> share of the rows.
    cut: where an input that is too long is cut, or None.
    shots: exemplars, or None.

  Returns:
    The dataset with `inputs`, `targets`, `template` and `content_key` added; with
    `cut_tokens` (int32, tokens that the cut took away) and `shots` (int32, exemplars
    shown), where these are used.

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
  kinds = {name: _kind(feature) for name, feature in spec.items()}
  fields = check_fields(templates, kinds)
  literals, pieces = _tables(templates, fields)
  names = [template.name for template in templates]
  asked = templates[0].fields("inputs") or fields
  budget = cutting.Budget.of(sequence_length, output_features, "inputs")
  choose = choosing.chooser(templates, shares)
  exemplars = None
  if shots and not drawing.current().evaluation:
    exemplars = few_shot.Exemplars(shots, templates, fields, asked, budget)
  shorten = (
    cutting.Shortener(cut, templates, fields, budget) if cut and budget else None
  )

  fits = choosing.fitting(
    templates, cutting.Budget.of(sequence_length, output_features, "targets")
  )

  def format_row(row):
    values = [row_dataset.as_text(row[field]) for field in fields]
    texts = tf.stack([*literals, *values])

    def filled(number):
      made = tf.gather(texts, tf.gather(tf.constant(pieces), number))
      return tf.unstack(tf.strings.reduce_join(made, axis=1), num=2)

    drawn, instead = choose(row["row_key"])
    drawn = tf.where(fits(drawn, filled(drawn)[1]), drawn, instead)
    inputs, targets = filled(drawn)
    key = row_dataset.content_key(row, asked)
    made = {"template": tf.gather(tf.constant(names), drawn), "content_key": key}
    if shorten:
      inputs, made["cut_tokens"] = shorten(inputs, drawn, values)
    if exemplars:
      inputs, made["shots"] = exemplars.add(inputs, drawn, row["row_key"], key)
    return {**row, "inputs": inputs, "targets": targets, **made}

  # Plain tensorflow: converted, what it raises would be lost in a traceback.
  plain = tf.autograph.experimental.do_not_convert(format_row)
  return dataset.map(plain, num_parallel_calls=tf.data.AUTOTUNE)


def _kind(feature: Any) -> Any:
  """Returns str or int for a feature that can be filled in, else None."""
  if not isinstance(feature, tf.TensorSpec) or feature.shape.rank != 0:
    return None
  return (
    str if feature.dtype == tf.string else int if feature.dtype.is_integer else None
  )


def check_fields(templates: Sequence[Template], kinds: Mapping[str, Any]) -> list[str]:
  """Checks the fields that templates name against those that rows have.

  Args:
    templates: the templates.
    kinds: the rows' fields; str or int for those that can be filled in.

  Returns:
    The fields that templates name, each once.

  Raises:
    UserError: a template names a field the rows lack, or one that is a list.
  """
  usable = {name for name, kind in kinds.items() if kind in (str, int)}
  used = []
  for template in templates:
    for part in PARTS:
      for field in template.fields(part):
        if field not in kinds:
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
  return list(dict.fromkeys(used))


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
  parsed = [t.pieces(part) for t in templates for part in PARTS]
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

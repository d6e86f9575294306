"""Preprocessors: tidy a row's fields before a template puts them into text.

Each is a function of this module from dataset to dataset; a task binds its other
arguments with `functools.partial`, so that they can be read off the task.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from t5tune.data import drawing
from t5tune.errors import UserError, did_you_mean

# No upper bit, so that keys are non-negative as those of sources are.
_KEYS = 2**63 - 1


def add_row_key(dataset: tf.data.Dataset, fields: Sequence[str]) -> tf.data.Dataset:
  """Adds `row_key` to rows of a source that is not ours, such as TFDS's own.

  Args:
    dataset: rows.
    fields: the text fields that tell rows apart.

  Returns:
    The dataset with an int64 `row_key`, a hash of the fields.

  Raises:
    UserError: a field that the rows lack.
  """
  _require(dataset, fields, "add_row_key")

  def add(row):
    # The separator keeps ("ab", "c") apart from ("a", "bc").
    text = tf.strings.join([row[field] for field in fields], separator="\x1f")
    return {**row, "row_key": tf.strings.to_hash_bucket_fast(text, _KEYS)}

  return dataset.map(add, num_parallel_calls=tf.data.AUTOTUNE)


def clean_lines(dataset: tf.data.Dataset, fields: Sequence[str]) -> tf.data.Dataset:
  r"""Makes lines end in one `\n`, without space around them or empty lines.

  SentencePiece turns each `\n` into a space. A dialogue's turns stay apart by the
  speaker's name at the start of each, as they did when FLAN-T5 was trained.

  Args:
    dataset: rows.
    fields: the text fields to clean.

  Returns:
    The dataset with the fields replaced.

  Raises:
    UserError: a field that the rows lack.
  """
  _require(dataset, fields, "clean_lines")

  def clean(row):
    cleaned = {
      field: tf.strings.regex_replace(
        tf.strings.strip(row[field]), r"\s*[\r\n]\s*", "\n"
      )
      for field in fields
    }
    return {**row, **cleaned}

  return dataset.map(clean, num_parallel_calls=tf.data.AUTOTUNE)


def collect_references(
  dataset: tf.data.Dataset, fields: Sequence[str]
) -> tf.data.Dataset:
  """Gathers a row's reference texts, of which a training row may have fewer.

  Args:
    dataset: rows.
    fields: text fields, each of which may be empty in a row, but not all.

  Returns:
    The dataset with `references`, the texts that are not empty, and with the first
    of `fields` holding the first of them, for templates.

  Raises:
    UserError: a field that the rows lack.
  """
  _require(dataset, fields, "collect_references")

  def collect(row):
    texts = tf.stack([row[field] for field in fields])
    texts = tf.boolean_mask(texts, tf.strings.length(texts) > 0)
    return {**row, "references": texts, fields[0]: texts[0]}

  return dataset.map(collect, num_parallel_calls=tf.data.AUTOTUNE)


def end_with_period(dataset: tf.data.Dataset, field: str) -> tf.data.Dataset:
  """Closes a text with a period where it has no final punctuation.

  Args:
    dataset: rows.
    field: the text field.

  Returns:
    The dataset with the field replaced.

  Raises:
    UserError: a field that the rows lack.
  """
  _require(dataset, [field], "end_with_period")

  def end(row):
    return {
      **row,
      field: tf.strings.regex_replace(row[field], r"([^.!?\s])[\s]*\z", r"\1."),
    }

  return dataset.map(end, num_parallel_calls=tf.data.AUTOTUNE)


def spell_entities(
  dataset: tf.data.Dataset, tokens: str = "tokens", tags: str = "tags"
) -> tf.data.Dataset:
  """Spells BIO tags out as text, such as `location: Oslo; person: Kari Moe`.

  `postprocessors.entities` reads the text back. A hyphen in a type's name becomes a
  space.

  Args:
    dataset: rows with as many tags as tokens.
    tokens: name of the list of tokens.
    tags: name of the list of tags: `O`, `B-type` or `I-type`.

  Returns:
    The dataset with `text`, the tokens joined by spaces, and `entities`, which is
    `none` for a row without any.

  Raises:
    UserError: a field that the rows lack.
  """
  _require(dataset, [tokens, tags], "spell_entities")

  def spell(row):
    words, labels = row[tokens], row[tags]
    inside = labels != "O"
    kinds = tf.strings.regex_replace(labels, r"^[BI]-", "")
    previous = tf.concat([["O"], kinds[:-1]], axis=0)
    # As everywhere BIO is read: an I- after another type starts an entity too.
    begins = tf.strings.regex_full_match(labels, r"B-.*") | (kinds != previous)
    begins = begins & inside
    count = tf.reduce_sum(tf.cast(begins, tf.int32))
    entity = tf.cumsum(tf.cast(begins, tf.int32)) - 1  # (tokens,), valid inside
    spans = tf.strings.unsorted_segment_join(
      tf.boolean_mask(words, inside), tf.boolean_mask(entity, inside), count, " "
    )
    kinds = tf.strings.regex_replace(tf.boolean_mask(kinds, begins), "-", " ")
    spelt = tf.strings.reduce_join(
      tf.strings.join([kinds, spans], separator=": "), separator="; "
    )
    return {
      **row,
      "text": tf.strings.reduce_join(words, separator=" "),
      "entities": tf.where(count > 0, spelt, "none"),
    }

  return dataset.map(spell, num_parallel_calls=tf.data.AUTOTUNE)


def count_words(
  dataset: tf.data.Dataset, field: str, to: str, multiple: int = 5
) -> tf.data.Dataset:
  """Adds how many words a text has, rounded up: for templates that limit a length.

  Args:
    dataset: rows.
    field: the text field.
    to: name of the count's field.
    multiple: the count is the next multiple of this.

  Returns:
    The dataset with the int64 field added.

  Raises:
    UserError: a field that the rows lack.
  """
  _require(dataset, [field], "count_words")

  def count(row):
    words = tf.size(tf.strings.split(row[field]), out_type=tf.int64)
    return {**row, to: tf.maximum(-(-words // multiple), 1) * multiple}

  return dataset.map(count, num_parallel_calls=tf.data.AUTOTUNE)


def add_options(
  dataset: tf.data.Dataset,
  choices: Sequence[str],
  to: str = "options",
  shuffle: bool = False,
) -> tf.data.Dataset:
  """Adds the answers a model may choose from, one a line, as the FLAN collection does.

  Args:
    dataset: rows, with a `row_key` where the choices are shuffled.
    choices: the answers.
    to: name of the field, for templates such as "...\n\n{options}".
    shuffle: whether each row lists them in an order drawn for it; leave it out where
      their order means something.

  Returns:
    The dataset with the text field added: "OPTIONS:" and "- answer" lines.

  Raises:
    UserError: shuffled rows lack `row_key`.
  """
  if shuffle:
    _require(dataset, ["row_key"], "add_options")
  lines = tf.constant([f"- {choice}" for choice in choices])

  def add(row):
    shown = lines
    if shuffle:
      ranks = [
        drawing.row_draw(row["row_key"], 2**31 - 1, f"option {i}")
        for i in range(len(choices))
      ]
      shown = tf.gather(lines, tf.argsort(tf.stack(ranks), stable=True))
    return {**row, to: "OPTIONS:\n" + tf.strings.reduce_join(shown, separator="\n")}

  return dataset.map(add, num_parallel_calls=tf.data.AUTOTUNE)


def added_fields(step: Callable) -> dict[str, Any] | None:
  """Returns the kinds of the fields that a preprocessor adds to a row.

  Args:
    step: a preprocessor as a task names it: a function or a partial of one.

  Returns:
    Field -> str, int or list[str]; None for a function that is not of this module.
  """
  function = getattr(step, "func", step)
  given = getattr(step, "keywords", {})
  if function in (clean_lines, end_with_period):
    return {}
  if function is add_row_key:
    return {"row_key": int}
  if function is collect_references:
    return {"references": list[str]}
  if function is spell_entities:
    return {"text": str, "entities": str}
  if function is count_words:
    return {given["to"]: int} if "to" in given else None
  if function is add_options:
    return {given.get("to", "options"): str}
  return None


def _require(dataset: tf.data.Dataset, fields: Sequence[str], name: str) -> None:
  """Raises a UserError where rows lack a field, before tensorflow traces anything."""
  known = dataset.element_spec
  for field in fields:
    if field not in known:
      raise UserError(
        f"preprocessors.{name}: the rows have no field {field!r}."
        f"{did_you_mean(field, known)} They have {', '.join(sorted(known))}."
      )

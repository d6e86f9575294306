"""Postprocessors: from a model's output, and a row, to what the metrics compare.

SeqIO calls one as `fn(text, example=row, is_target=False)` for a prediction and with
`is_target=True` for the target. The reference comes from the row's own fields where
the row is given: the target's text may have been cut at the target length, and
pieces that the vocabulary lacks are lost in it. Output may be anything, the empty
text included. Pure Python: scoring needs no tensorflow.
"""

import re
from collections.abc import Mapping
from typing import Any

STARS = range(1, 6)

_NUMBER_WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
_STARS = re.compile(r"-?\d+(?:\.\d+)?|\b(?:" + "|".join(_NUMBER_WORDS) + r")\b")
_ANSWER = re.compile(r"\bthe answer is\b:?", re.IGNORECASE)
# An entity ends where the next type begins, not at any semicolon.
_NEXT_ENTITY = re.compile(r";\s*(?=[^\W\d_][\w -]{0,30}:)")

Row = Mapping[str, Any] | None


def field(row: Row, name: str) -> Any:
  """Returns a row's field as plain Python values.

  Args:
    row: the row, or None where the caller has none.
    name: the field.

  Returns:
    The value, with numpy arrays as lists and bytes as text; None where absent.
  """
  if row is None or name not in row:
    return None
  return _plain(row[name])


def _plain(value: Any) -> Any:
  value = value.tolist() if hasattr(value, "tolist") else value
  if isinstance(value, (list, tuple)):
    return [_plain(v) for v in value]
  return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def summary(text: str, example: Row = None, is_target: bool = False) -> str | list[str]:
  """Returns a summary, or the references for a target.

  Args:
    text: the output, or the target's text.
    example: the row; its `references` are used.
    is_target: whether to return the references.

  Returns:
    The stripped text; for a target, the list of references.
  """
  if not is_target:
    return _plain(text).strip()
  return field(example, "references") or [_plain(text).strip()]


def stars(text: str, example: Row = None, is_target: bool = False) -> int | None:
  """Returns the rating that a text states.

  Args:
    text: the output, such as "4", "4 stars", "four out of five".
    example: the row; its `stars` are used.
    is_target: whether to return the reference.

  Returns:
    The first number where it is a whole one from 1 to 5, else None.
  """
  reference = field(example, "stars") if is_target else None
  if reference is not None:
    return int(reference)
  found = _STARS.search(_plain(text).lower())
  if not found:
    return None
  number = _NUMBER_WORDS.get(found[0]) or float(found[0])
  return int(number) if number in STARS else None


def from_field(
  text: str, example: Row = None, is_target: bool = False, *, name: str
) -> str:
  """Returns the output as it is, or a field of the row for a target.

  Args:
    text: the output, or the target's text.
    example: the row.
    is_target: whether to return the reference.
    name: the field that holds the reference; bind it with `functools.partial`.

  Returns:
    The stripped text.
  """
  reference = field(example, name) if is_target else None
  return (_plain(text) if reference is None else reference).strip()


def entities(
  text: str, example: Row = None, is_target: bool = False
) -> list[tuple[str, str]]:
  """Reads the entities of a text in the form of `preprocessors.spell_entities`.

  Args:
    text: the output, such as "location: Oslo; person: Kari Moe", or "none".
    example: the row; its `tokens` and `tags` (BIO) are used.
    is_target: whether to return the reference.

  Returns:
    (type, entity) pairs; parts of the text that have no such form are left out.
  """
  tokens, tags = field(example, "tokens"), field(example, "tags")
  if is_target and tokens is not None and tags is not None:
    return _bio_entities(tokens, tags)
  found = []
  for part in _NEXT_ENTITY.split(_plain(text)):
    kind, colon, entity = part.partition(":")
    if colon and kind.strip() and entity.strip():
      found.append((" ".join(kind.split()).lower(), " ".join(entity.split())))
  return found


def _bio_entities(tokens: list[str], tags: list[str]) -> list[tuple[str, str]]:
  """Returns the (type, entity) pairs of a row's BIO tags."""
  found: list[tuple[str, str]] = []
  previous = ""
  for token, tag in zip(tokens, tags, strict=True):
    begin, _, kind = tag.partition("-")
    if kind and (begin == "B" or kind != previous):
      found.append((kind.replace("-", " "), token))
    elif kind:
      found[-1] = (found[-1][0], f"{found[-1][1]} {token}")
    previous = kind
  return found


def final_answer(text: str, example: Row = None, is_target: bool = False) -> str:
  """Returns the answer at the end of a chain of thought.

  Args:
    text: the output, which should end in "The answer is X."
    example: the row; its `answer` is used.
    is_target: whether to return the reference.

  Returns:
    What follows the last "the answer is", else the whole text.
  """
  reference = field(example, "answer") if is_target else None
  if reference is not None:
    return reference.strip()
  return _ANSWER.split(_plain(text))[-1].strip().removesuffix(".").strip()

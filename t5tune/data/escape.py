r"""Escapes: text that a vocabulary cannot express, written in characters it can.

    text -> escaped text -> tokens -> escaped text -> text

T5's vocabulary has no newline, tab, `{`, `}`, `\`, `<`, `~`, `^` or backtick, takes a
run of spaces for one, and changes what Unicode's NFKC changes. An escape is a `#` and
a code: `#n` is a newline, `#(` is `{`, `#3` is three spaces, `#xe9;` is the character
of that number; `##` is `#`. A `#` that no code follows stands for itself, so that
`#Person1#` stays as it is.
"""

import functools
import re
from collections.abc import Callable, Mapping

import sentencepiece

from t5tune.errors import UserError

# Beside these codes stands a space that is none of the text's, so that the words
# around a line break keep their pieces. Other codes are glued.
_BREAKS = {"n": "\n", "t": "\t", "r": "\r"}
_SIGNS = {
  "#": "#",
  **{"(": "{", ")": "}", "[": "<", "]": ">"},
  **{"/": "\\", "-": "~", "*": "^", '"': "`", "!": "|"},
}
_SPACES = {str(count): " " * count for count in range(1, 10)}
_CODES = {sign: code for code, sign in (_BREAKS | _SIGNS).items()}
_AFTER_LEAD = {*_BREAKS, *_SIGNS, *_SPACES, "x"}
# What every escape can be written with. The rest is used where it is expressed.
NEEDED = "#x0123456789abcdef;"

# What is not written character by character: the rest lies between.
_UNIT = re.compile(r"([\n\t\r#]|(?:\A|(?<=[\n\t\r])) +| +(?=[\n\t\r]|\Z)| {2,})")
_ESCAPE = re.compile(
  rf" ?#([{''.join(_BREAKS)}]) ?"
  rf"|#([{re.escape(''.join({**_SIGNS, **_SPACES}))}])"
  r"|#x([0-9a-fA-F]{1,6});"
)
_SENTINEL = "<extra_id_"


class Codes(dict):
  """How characters are written, by code point: as themselves or as an escape.

  Filled when asked; fit for `str.translate`.
  """

  def __init__(self, expresses: Callable[[str], bool]):
    """Takes the characters that need no escape.

    Args:
      expresses: whether a vocabulary gives a character back as it was.
    """
    super().__init__()
    self._expresses = expresses

  def __missing__(self, point: int) -> str:
    character = chr(point)
    code = _CODES.get(character)
    if character == " " or self._expresses(character):
      self[point] = character
    elif code and self._expresses(code):
      self[point] = f"#{code}"
    else:
      self[point] = f"#x{point:x};"
    return self[point]


def escape(text: str, codes: Mapping[int, str]) -> str:
  """Writes a text so that `unescape` gives it back after a vocabulary had it.

  Spaces are taken to be lost at either end of the text, beside a break that is
  escaped, and in a run all but one.

  Args:
    text: any text.
    codes: how each character is written, as `Codes` says.

  Returns:
    The escaped text.
  """
  breaks = {sign for code, sign in _BREAKS.items() if codes[ord(sign)] == f"#{code}"}
  breaks.add("")  # either end of the text
  units = ["", *filter(None, _UNIT.split(text)), ""]
  parts = []
  for before, unit, after in zip(units, units[1:], units[2:], strict=False):
    if unit == "#":
      parts.append(unit)
    elif unit in breaks:
      left = "" if before in breaks else " "
      parts.append(left + codes[ord(unit)] + (" " if after else ""))
    elif not unit.strip(" "):
      # One is left for the word behind it, which so keeps its piece.
      kept = after not in breaks and (len(unit) > 1 or before not in breaks)
      nines, rest = divmod(len(unit) - kept, 9)
      parts.append("#9" * nines + (f"#{rest}" if rest else "") + " " * kept)
    else:
      parts.append(unit.translate(codes))
  for i, following in enumerate(parts[1:]):
    if parts[i] == "#" and following[0] in _AFTER_LEAD:
      parts[i] = "##"
  return "".join(parts)


def unescape(text: str) -> str:
  """Returns the text that was escaped.

  Args:
    text: any text, such as a model writes; what is no escape stays as it is.

  Returns:
    The text, with the space at either side of a break's escape removed.
  """
  return _ESCAPE.sub(_read, text)


def _read(match: re.Match) -> str:
  """Returns what one escape stands for."""
  code, sign, number = match.groups()
  if code:
    return _BREAKS[code]
  if sign:
    return _SIGNS.get(sign) or _SPACES[sign]
  point = int(number, 16)
  valid = point < 0xD800 or 0xDFFF < point <= 0x10FFFF
  return chr(point) if valid else match[0]


class Escaper:
  """Knows what a vocabulary expresses, and escapes texts for it."""

  def __init__(self, processor: sentencepiece.SentencePieceProcessor, name: str):
    """Takes a vocabulary.

    Args:
      processor: the SentencePiece model, its sentinels appended.
      name: what messages call the vocabulary.
    """
    self._processor = processor
    self._name = name
    # Beside a letter, normalisation does to a combining mark what it does in words.
    self._letter = next(filter(self._gives_back, "aeinost"), "")

  def expresses(self, character: str) -> bool:
    """Returns whether a character comes back, alone and inside a word."""
    return self._gives_back(character) and self._gives_back(self._letter + character)

  def _gives_back(self, text: str) -> bool:
    """Returns whether a text comes back from its tokens."""
    return self._processor.decode(self._processor.encode(text)) == text

  @functools.cached_property
  def _ladder(self) -> tuple[Codes, ...]:
    """Ways to write characters, each with more escapes than the one before.

    Raises:
      UserError: the vocabulary cannot express escapes.
    """
    lacks = [c for c in NEEDED if not self.expresses(c)]
    if lacks:
      raise UserError(
        f"VOCABULARY = {self._name!r} does not express {' '.join(lacks)}, with which"
        " escapes are written. Use a vocabulary that does, or register the task with"
        " output_features(escape=False)."
      )
    return (
      Codes(self.expresses),
      Codes(lambda c: c != "<" and self.expresses(c)),
      Codes(lambda c: c != "<" and c.isascii() and self.expresses(c)),
      Codes(lambda c: False),
    )

  def check(self) -> None:
    """Raises a UserError where the vocabulary cannot express escapes."""
    _ = self._ladder

  def escape(self, text: str) -> str:
    """Escapes a text so that it comes back exactly from its tokens.

    Normalisation may join characters that it leaves alone one by one, so the result
    is tried, and where it fails more is escaped: all but ASCII, then everything.

    Args:
      text: any text without lone surrogates. `<extra_id_0>` in it is text: no
        sentinel is among its tokens.

    Returns:
      The text, escaped where needed.

    Raises:
      UserError: the vocabulary cannot express escapes, or has rules that change them.
    """
    first = 1 if _SENTINEL in text else 0  # the way that escapes every `<`
    for codes in self._ladder[first:]:
      written = escape(text, codes)
      ids = self._processor.encode(written)
      if unescape(self._processor.decode(ids)) == text:
        return written
    raise UserError(
      f"VOCABULARY = {self._name!r} does not give {text[:40]!r} back, however it is"
      " escaped. Use a vocabulary without normalisation rules of its own, or register"
      " the task with output_features(escape=False)."
    )

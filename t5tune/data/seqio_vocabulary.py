"""SeqIO's view of a vocabulary: the definition side of `vocabularies.py`."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from t5tune.data import vocabularies
from t5tune.data.escape import Escaper, unescape


class T5Vocabulary(seqio.SentencePieceVocabulary):
  """A SentencePiece vocabulary that knows a sentinel wherever it stands.

  SeqIO's own knows `<extra_id_N>` only behind a space. Two that differ in `escape`
  are equal, since ids mean the same pieces: a mixture may hold tasks of both.

  Attributes:
    escape: whether encoding escapes what the vocabulary would lose and decoding
      gives it back (`escape.py`); then sentinels in a text are text.
  """

  def __init__(self, path: str, extra_ids: int = 0, escape: bool = False):
    """Takes a file, which is read on first use.

    Args:
      path: a SentencePiece model.
      extra_ids: number of sentinels to append.
      escape: see above.
    """
    super().__init__(path, extra_ids=extra_ids)
    self.escape = escape
    self._made_escaper: Escaper | None = None

  def __getstate__(self) -> dict[str, Any]:
    return {**super().__getstate__(), "_made_escaper": None}

  def __eq__(self, other: Any) -> bool:
    if not isinstance(other, seqio.SentencePieceVocabulary):
      return False
    ours = ("escape", "_made_escaper")
    mine, theirs = (
      {k: v for k, v in vocabulary.__getstate__().items() if k not in ours}
      for vocabulary in (self, other)
    )
    return mine == theirs

  def check_escape(self) -> None:
    """Raises a UserError where escapes are asked for and cannot be written.

    The first text would raise it too, with tensorflow's own words around it.
    """
    if self.escape:
      self._escaper.check()

  @property
  def _escaper(self) -> Escaper:
    """What escapes; it remembers the characters it has met."""
    if self._made_escaper is None:
      self._made_escaper = Escaper(self.tokenizer, self.sentencepiece_model_file)
    return self._made_escaper

  def _encode(self, s: str) -> list[int]:
    if self.escape:
      s = self._escaper.escape(s)
    spaced = vocabularies.SPACED_SENTINEL
    return super()._encode(re.sub(vocabularies.SENTINEL, spaced, s))

  def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
    if self.escape:
      self.check_escape()  # now, rather than inside the graph
      s = _map_strings(self._escaper.escape, s)
    spaced = vocabularies.SPACED_SENTINEL
    return super()._encode_tf(
      tf.strings.regex_replace(s, vocabularies.SENTINEL, spaced)
    )

  def _decode(self, ids: list[int]) -> str:
    text = super()._decode(ids)
    return unescape(text) if self.escape else text

  def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
    text = super()._decode_tf(ids)
    return _map_strings(unescape, text) if self.escape else text


def _map_strings(function: Callable[[str], str], strings: tf.Tensor) -> tf.Tensor:
  """Applies a function of Python to every string of a tensor, dense or ragged."""

  def apply(values: Any) -> np.ndarray:
    values = np.asarray(values, object)
    # Bytes that are no UTF-8 become U+FFFD, as in SentencePiece itself.
    texts = (function(v.decode("utf-8", "replace")).encode() for v in values.flat)
    # Objects, since numpy's own strings lose a NUL at the end.
    return np.fromiter(texts, object, values.size).reshape(values.shape)

  def mapped(flat: tf.Tensor) -> tf.Tensor:
    flat = tf.convert_to_tensor(flat)
    result = tf.numpy_function(apply, [flat], tf.string, stateful=False)
    return tf.ensure_shape(result, flat.shape)

  return tf.ragged.map_flat_values(mapped, strings)

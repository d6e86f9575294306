"""SeqIO's view of a vocabulary: the definition side of `vocabularies.py`."""

import re

import seqio
import tensorflow as tf

from t5tune.data import vocabularies


class T5Vocabulary(seqio.SentencePieceVocabulary):
  """A SentencePiece vocabulary that knows a sentinel wherever it stands.

  SeqIO's own knows `<extra_id_N>` only behind a space.
  """

  def _encode(self, s: str) -> list[int]:
    spaced = vocabularies.SPACED_SENTINEL
    return super()._encode(re.sub(vocabularies.SENTINEL, spaced, s))

  def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
    spaced = vocabularies.SPACED_SENTINEL
    return super()._encode_tf(
      tf.strings.regex_replace(s, vocabularies.SENTINEL, spaced)
    )

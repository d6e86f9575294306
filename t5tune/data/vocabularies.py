"""Vocabularies: text to token ids and back, the step between text and tokens.

T5's form is pad 0, end of sequence 1, unknown 2, then SentencePiece's other pieces,
then 100 sentinels in descending order, so that `<extra_id_0>` is the highest id
(Raffel et al. 2020, https://arxiv.org/abs/1910.10683, section 3.1.4).
"""

import hashlib
import importlib.resources
import os
import pathlib
import re
from collections import Counter
from collections.abc import Iterable

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from t5tune.data.escape import Escaper, unescape
from t5tune.errors import UserError, did_you_mean

PAD_ID = 0
EOS_ID = 1
UNK_ID = 2
EXTRA_IDS = 100
# A sentinel's piece holds the space before it: text is given one where it lacks it.
# A pattern of both `re` and RE2.
SENTINEL = r"[ \t\n\r\f]*<extra_id_([0-9]|[1-9][0-9])>[ \t\n\r\f]*"
SPACED_SENTINEL = r" <extra_id_\1> "

# What a task carries until a run puts its own vocabulary in. Only a name here:
# nothing is read, locally or remotely, before a task's dataset is built.
T5_PUBLIC_VOCABULARY = "gs://t5-data/vocabs/cc_all.32000/sentencepiece.model"


def _shipped() -> dict[str, pathlib.Path]:
  """Returns the vocabularies that come with the tasks, by file name."""
  try:
    tasks = pathlib.Path(str(importlib.resources.files("t5tune.tasks")))
  except ModuleNotFoundError:
    # A checkout that is not installed has `tasks/` beside the package.
    tasks = pathlib.Path(__file__).resolve().parents[2] / "tasks"
  folder = tasks / "vocabularies"
  if not folder.is_dir():
    return {}
  return {path.name: path for path in sorted(folder.glob("*.model"))}


def resolve(name: str | os.PathLike) -> pathlib.Path:
  """Finds a vocabulary file and checks that it is a T5 SentencePiece model.

  Args:
    name: a path, or the file name of a vocabulary shipped with the tasks.

  Returns:
    The path of the file.

  Raises:
    UserError: no such file, or not a SentencePiece model in T5's form.
  """
  shipped = _shipped()
  path = pathlib.Path(name).expanduser()
  if not path.is_file():
    if str(name) not in shipped:
      known = ", ".join(shipped) or "none"
      remote = (
        " Remote paths are not read: download the file and give its local path."
        if "://" in str(name)
        else ""
      )
      raise UserError(
        f"VOCABULARY = {str(name)!r}: no such file, and no shipped vocabulary has"
        f" that name (shipped: {known}).{did_you_mean(str(name), shipped)}{remote}"
        " Set VOCABULARY to the path of a SentencePiece model (of T5's form, such"
        " as `spiece.model` beside the pretrained weights) or to a shipped name."
      )
    path = shipped[str(name)]
  Tokenizer(path)
  return path


class Tokenizer:
  """SentencePiece with T5's special ids and sentinels, without tensorflow.

  Gives the same ids as `seqio_vocabulary` on the same file.

  Attributes:
    path: the SentencePiece model file.
    size: number of ids, the 100 sentinels included.
    sha256: hex digest of the model file.
  """

  def __init__(self, path: str | os.PathLike):
    """Loads a SentencePiece model.

    Args:
      path: the model file.

    Raises:
      UserError: the file cannot be read, is no SentencePiece model, or does not
        have T5's special ids.
    """
    self.path = pathlib.Path(path)
    try:
      serialized = self.path.read_bytes()
    except OSError as error:
      raise UserError(
        f"VOCABULARY = {str(path)!r} cannot be read: {error.strerror}. Set"
        " VOCABULARY to a readable SentencePiece model."
      ) from error
    self.sha256 = hashlib.sha256(serialized).hexdigest()
    self._processor = _load(serialized, str(path))
    self.size = self._processor.get_piece_size()
    self._escaper = Escaper(self._processor, str(path))
    self._lost = _Lost(self._escaper)

  def encode(self, text: str, escape: bool = False) -> list[int]:
    """Returns the token ids of a text, without an end-of-sequence id.

    Args:
      text: any text; T5's kind of vocabulary takes newlines and runs of spaces for
        one space.
      escape: whether to escape what the vocabulary would lose; see `escape.py`.

    Returns:
      Ids below `size`; `<extra_id_N>` gives its sentinel wherever it stands, and
      takes the spaces around it, as in Hugging Face's slow T5 tokenizer. Escaped,
      it is text as any other, and `decode(ids, escape=True)` is exactly `text`.

    Raises:
      UserError: escapes are asked for and the vocabulary cannot express them.
    """
    if escape:
      text = self._escaper.escape(text)
    return self._processor.encode(re.sub(SENTINEL, SPACED_SENTINEL, text))

  def decode(self, ids: Iterable[int], escape: bool = False) -> str:
    """Returns the text of token ids, as far as the first end of sequence.

    Args:
      ids: any integers (list or array); padding and ids outside the vocabulary,
        such as those of a padded embedding table, are dropped.
      escape: whether the ids are of an escaped text, or of a model trained on such.

    Returns:
      The text; sentinels appear as `<extra_id_N>`, unknown pieces as ` ⁇ `.
    """
    kept = []
    for i in map(int, ids):
      if i == EOS_ID:
        break
      if PAD_ID < i < self.size:
        kept.append(i)
    text = self._processor.decode(kept)
    return unescape(text) if escape else text

  def lost_characters(self, text: str) -> Counter[str]:
    """Counts the characters of a text that the vocabulary cannot express.

    Args:
      text: any text.

    Returns:
      How often each character occurs that is unknown to the vocabulary or that
      normalisation changes, such as a newline into a space; a space is never lost.
    """
    return Counter(text.translate(self._lost))


class _Lost(dict):
  """A table for `str.translate` that leaves the characters a vocabulary loses."""

  def __init__(self, escaper: Escaper):
    super().__init__()
    self._escaper = escaper

  def __missing__(self, point: int) -> int | None:
    kept = point == ord(" ") or self._escaper.expresses(chr(point))
    self[point] = None if kept else point
    return self[point]


def _load(serialized: bytes, name: str) -> sentencepiece.SentencePieceProcessor:
  """Returns the processor of a model in T5's form, its sentinels appended."""
  model = sentencepiece_model_pb2.ModelProto()
  try:
    model.ParseFromString(serialized)
    # An empty or foreign file may parse as a proto without pieces.
    if not model.pieces:
      raise ValueError("it holds no pieces")
    # As SeqIO appends them: descending, the space mark inside the piece.
    for i in reversed(range(EXTRA_IDS)):
      model.pieces.add(
        piece=f"▁<extra_id_{i}>",
        score=0.0,
        type=sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED,
      )
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model.SerializeToString())
  # protobuf's DecodeError is no ValueError in every implementation of protobuf.
  except Exception as error:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else "damaged"
    raise UserError(
      f"VOCABULARY = {name!r} is not a usable SentencePiece model ({reason})."
      " Set VOCABULARY to a `.model` file written by SentencePiece, without"
      f" pieces named <extra_id_N>: the {EXTRA_IDS} sentinels are added here."
    ) from error
  found = (processor.pad_id(), processor.eos_id(), processor.unk_id())
  if found != (PAD_ID, EOS_ID, UNK_ID):
    raise UserError(
      f"VOCABULARY = {name!r} has pad, eos and unk ids {found}, T5 needs"
      f" {(PAD_ID, EOS_ID, UNK_ID)}. Train it with --pad_id=0 --eos_id=1"
      " --unk_id=2 --bos_id=-1, or use a T5 vocabulary."
    )
  return processor


def seqio_vocabulary(path: str | os.PathLike, escape: bool = False):
  """Returns SeqIO's view of a vocabulary file; the file is read on first use.

  Args:
    path: a SentencePiece model.
    escape: whether encoding escapes what the vocabulary would lose, and decoding
      gives it back.

  Returns:
    A `seqio.SentencePieceVocabulary` with 100 extra ids.
  """
  from t5tune.data import seqio_vocabulary as definition

  return definition.T5Vocabulary(str(path), extra_ids=EXTRA_IDS, escape=escape)


def output_features(vocabulary: str | os.PathLike | None = None, escape: bool = False):
  """Returns the `inputs` and `targets` features that every task registers with.

  Args:
    vocabulary: a SentencePiece model; by default T5's public one, which a run
      replaces by its own.
    escape: whether the text survives characters that the vocabulary lacks, such as
      newlines and braces in T5's own, at the price of some more tokens.

  Returns:
    A dict of `seqio.Feature` by name, both with an end-of-sequence id.
  """
  import seqio

  feature = seqio.Feature(
    vocabulary=seqio_vocabulary(vocabulary or T5_PUBLIC_VOCABULARY, escape),
    add_eos=True,
    required=True,
  )
  return {"inputs": feature, "targets": feature}

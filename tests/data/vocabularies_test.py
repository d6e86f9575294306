"""Token ids: T5's form, SeqIO's ids, and what is said when a file is wrong."""

import hashlib
import re
import subprocess
import sys

import numpy as np
import pytest
import sentencepiece
from tiny_data import train_vocabulary

from t5tune.data import vocabularies
from t5tune.errors import UserError

TEXTS = [
  "",
  " ",
  "The ferry leaves at noon.",
  "  leading and   inner spaces ",
  "turns\non\r\nlines\tand tabs",
  "emoji 🙂 and {braces} and ﬁgures ½",
  "<extra_id_0> keeps <extra_id_99> and <extra_id_100>",
  "日本語のテキスト",
  "</s> <pad> <unk>",
  "glued<extra_id_0>on both<extra_id_12>, sides",
  "<extra_id_0><extra_id_1>  <extra_id_2> ",
  "\U0001f9ff unknown, then  <extra_id_5>\n\nnext",
]


def slowly(vocabulary, text: str) -> list[int]:
  """Encodes as Hugging Face's slow T5 tokenizer: text between sentinels by itself."""
  processor = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary))
  last = processor.get_piece_size() + vocabularies.EXTRA_IDS - 1
  ids = []
  for i, part in enumerate(re.split(r"<extra_id_(\d\d?)>", text)):
    ids += [last - int(part)] if i % 2 else processor.encode(part.strip())
  return ids


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_sentencepieces_own_and_sentinels(vocabulary, text):
  assert vocabularies.Tokenizer(vocabulary).encode(text) == slowly(vocabulary, text)


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_seqio(vocabulary, text):
  tokenizer = vocabularies.Tokenizer(vocabulary)
  theirs = vocabularies.seqio_vocabulary(vocabulary)
  ids = tokenizer.encode(text)
  assert ids == list(theirs.encode(text)) == theirs.encode_tf(text).numpy().tolist()
  assert tokenizer.decode(ids) == theirs.decode(ids)
  assert tokenizer.size == theirs.vocab_size


def test_sentinels_stand_at_the_end_in_descending_order(vocabulary):
  tokenizer = vocabularies.Tokenizer(vocabulary)
  for i in (0, 1, 99):
    assert tokenizer.encode(f"<extra_id_{i}>") == [tokenizer.size - 1 - i]
    assert tokenizer.decode([tokenizer.size - 1 - i]) == f"<extra_id_{i}>"


def test_decode_stops_at_the_end_and_drops_what_is_no_piece(vocabulary):
  tokenizer = vocabularies.Tokenizer(vocabulary)
  ids = tokenizer.encode("Ana will pack.")
  noisy = [0, *ids[:2], tokenizer.size, 10**6, -1, 0, *ids[2:], 1, *ids]
  assert tokenizer.decode(noisy) == "Ana will pack."
  assert tokenizer.decode(np.array(noisy, np.int32)) == "Ana will pack."
  assert tokenizer.decode([]) == tokenizer.decode([0, 1, 5]) == ""


def test_digest_is_that_of_the_file(vocabulary):
  digest = hashlib.sha256(vocabulary.read_bytes()).hexdigest()
  assert vocabularies.Tokenizer(vocabulary).sha256 == digest


def test_resolve_takes_a_path(vocabulary):
  assert vocabularies.resolve(vocabulary) == vocabulary
  assert vocabularies.resolve(str(vocabulary)) == vocabulary


def test_resolve_finds_shipped_vocabularies_and_suggests_them(
  vocabulary, tmp_path, monkeypatch
):
  shipped = tmp_path / "vocabularies" / "tiny_words.model"
  shipped.parent.mkdir()
  shipped.write_bytes(vocabulary.read_bytes())
  monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
  assert vocabularies.resolve("tiny_words.model") == shipped
  with pytest.raises(UserError, match=r"VOCABULARY.*Did you mean 'tiny_words.model'"):
    vocabularies.resolve("tiny_word.model")


def test_shipped_vocabularies_are_usable_installed_or_not(monkeypatch):
  installed = vocabularies._shipped()
  for name in installed:
    assert vocabularies.resolve(name).name == name

  def not_installed(package):
    raise ModuleNotFoundError(package)

  monkeypatch.setattr("importlib.resources.files", not_installed)
  assert set(vocabularies._shipped()) == set(installed)


def test_remote_paths_are_refused_with_the_fix():
  with pytest.raises(UserError, match="Remote paths are not read: download"):
    vocabularies.resolve(vocabularies.T5_PUBLIC_VOCABULARY)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x00" * 100])
def test_a_file_that_is_no_model_is_named(tmp_path, content):
  path = tmp_path / "words.model"
  path.write_bytes(content)
  with pytest.raises(UserError, match=f"VOCABULARY = '{re.escape(str(path))}'.*usable"):
    vocabularies.resolve(path)


def test_a_folder_is_no_vocabulary(tmp_path):
  with pytest.raises(UserError, match="no such file"):
    vocabularies.resolve(tmp_path)
  with pytest.raises(UserError, match="cannot be read"):
    vocabularies.Tokenizer(tmp_path)


def test_other_special_ids_are_refused_with_the_ids(tmp_path):
  path = train_vocabulary(tmp_path / "bos.model", pad_id=3, unk_id=0, bos_id=2)
  with pytest.raises(UserError, match=r"\(3, 1, 0\), T5 needs \(0, 1, 2\)"):
    vocabularies.resolve(path)


def test_features_have_an_end_of_sequence(vocabulary):
  features = vocabularies.output_features(vocabulary)
  assert set(features) == {"inputs", "targets"}
  assert all(f.add_eos and f.required for f in features.values())
  assert features["inputs"].vocabulary.eos_id == 1


def test_tokenizer_needs_no_tensorflow():
  code = (
    "import sys; from t5tune.data import vocabularies;"
    "assert not {'tensorflow', 'seqio'} & set(sys.modules)"
  )
  assert subprocess.run([sys.executable, "-c", code]).returncode == 0

"""SeqIO's view: the tokenizer's ids, escaped or not, in graphs and in mixtures."""

import copy
import pickle
import random

import pytest
import seqio
import tensorflow as tf
from escape_texts import FAMILIES

from t5tune.data import vocabularies
from t5tune.errors import UserError

TEXTS = ["Bo:\n  {a\\b}\0", "", " \u00e9\u0301 日\r\n\n", "a<extra_id_3>b", "plain #1"]
LENGTHS = {"inputs": 500, "targets": 500}


@pytest.fixture(scope="module")
def tokenizer(tokenizers):
  return tokenizers["t5"]


@pytest.fixture(scope="module")
def escaping(tokenizer):
  return vocabularies.seqio_vocabulary(tokenizer.path, escape=True)


def test_ids_are_the_tokenizers_and_texts_come_back(tokenizer, escaping):
  draw = random.Random(3)
  texts = TEXTS + [f(draw) for f in FAMILIES.values() for _ in range(15)]
  batch = escaping.encode_tf(tf.constant(texts))
  for text, row in zip(texts, batch.to_list(), strict=True):
    assert tokenizer.encode(text, escape=True) == list(escaping.encode(text)) == row
    assert escaping.decode(row) == tokenizer.decode(row, escape=True) == text
  decoded = escaping.decode_tf(batch.to_tensor()).numpy()
  assert [text.decode() for text in decoded] == texts


def test_any_shape_is_encoded(tokenizer, escaping):
  for text in TEXTS:
    ids = escaping.encode_tf(text)
    assert ids.dtype == tf.int32 and ids.shape.rank == 1
    assert ids.numpy().tolist() == tokenizer.encode(text, escape=True)
    assert escaping.decode_tf(ids).numpy().decode() == text
  nested = [TEXTS, TEXTS[:2], []]
  for strings in (tf.ragged.constant(nested), tf.constant([TEXTS, TEXTS[::-1]])):
    expected = [
      [tokenizer.encode(text.decode(), escape=True) for text in row]
      for row in strings.numpy()
    ]
    assert escaping.encode_tf(strings).to_list() == expected


def test_bytes_that_are_no_text_become_replacement_characters(escaping):
  ids = escaping.encode_tf(tf.constant(b"a\xff{"))
  assert escaping.decode(ids.numpy().tolist()) == "a\ufffd{"


def test_shapes_are_known_inside_a_graph(escaping):
  dataset = tf.data.Dataset.from_tensor_slices(TEXTS).map(escaping.encode_tf)
  assert dataset.element_spec == tf.TensorSpec([None], tf.int32)
  back = dataset.map(escaping.decode_tf)
  assert back.element_spec == tf.TensorSpec([], tf.string)
  assert [text.decode() for text in back.as_numpy_iterator()] == TEXTS


def test_without_escape_nothing_changes(tokenizer):
  plain = vocabularies.seqio_vocabulary(tokenizer.path)
  assert not plain.escape
  for text in TEXTS:
    assert list(plain.encode(text)) == tokenizer.encode(text)
    assert plain.encode_tf(text).numpy().tolist() == tokenizer.encode(text)
  assert plain.decode(tokenizer.encode("a #n b")) == "a #n b"


def test_copies_keep_the_escape_and_equality_ignores_it(tokenizer, escaping):
  escaping.encode("a\n")
  for copied in (pickle.loads(pickle.dumps(escaping)), copy.deepcopy(escaping)):
    assert copied.escape and copied.encode("a\n") == escaping.encode("a\n")
  plain = vocabularies.seqio_vocabulary(tokenizer.path)
  theirs = seqio.SentencePieceVocabulary(str(tokenizer.path), extra_ids=100)
  assert escaping == plain == theirs == escaping
  assert not escaping != plain
  assert escaping != vocabularies.seqio_vocabulary("another.model", escape=True)
  assert escaping != seqio.ByteVocabulary()


def task(name: str, path, escape: bool) -> seqio.Task:
  def rows(split, shuffle_files, seed=None):
    texts = [f"{text} {name}" for text in TEXTS]
    return tf.data.Dataset.from_tensor_slices({"inputs": texts, "targets": texts})

  return seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(rows, splits=["train"]),
    preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
    output_features=vocabularies.output_features(path, escape=escape),
  )


def test_tasks_with_and_without_it_mix(tokenizer):
  names = {"vocabulary_test_escaped": True, "vocabulary_test_plain": False}
  tasks = [task(name, tokenizer.path, escape) for name, escape in names.items()]
  seqio.MixtureRegistry.add("vocabulary_test_mix", tasks, default_rate=1.0)
  try:
    mixture = seqio.MixtureRegistry.get("vocabulary_test_mix")
    dataset = mixture.get_dataset(LENGTHS, "train", shuffle=False)
    rows = [row["targets"].tolist() for row in dataset.take(60).as_numpy_iterator()]
  finally:
    seqio.MixtureRegistry.remove("vocabulary_test_mix")
    for name in names:
      seqio.TaskRegistry.remove(name)
  for name, escape in names.items():
    wanted = [[*tokenizer.encode(f"{t} {name}", escape=escape), 1] for t in TEXTS]
    assert all(ids in rows for ids in wanted)
  assert all(row.count(1) == 1 for row in rows)


def test_a_vocabulary_without_what_escapes_need_is_named(lacking):
  escaping = vocabularies.seqio_vocabulary(lacking, escape=True)
  with pytest.raises(UserError, match="no7.model' does not express 7 9"):
    escaping.check_escape()
  with pytest.raises(UserError, match="no7.model' does not express 7 9"):
    escaping.encode_tf(tf.constant("plain"))
  vocabularies.seqio_vocabulary(lacking).check_escape()

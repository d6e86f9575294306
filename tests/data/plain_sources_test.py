"""Tasks with SeqIO's own sources, and its own kinds of mixtures, run unchanged."""

import functools
import json
import os

import numpy as np
import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds
from tiny_project import prepare

from t5tune.data import preprocessors, templates, token_store, vocabularies
from t5tune.data.templates import Template
from t5tune.errors import UserError

WORDS = [f"lamp {i}" for i in range(9)]


def score(targets, predictions):
  return {
    "same": 100.0 * np.mean([t == p for t, p in zip(targets, predictions, strict=True)])
  }


def from_text(dataset):
  return dataset.map(lambda line: {"inputs": line, "targets": line})


def from_record(record):
  feature = tf.io.FixedLenFeature([], tf.string)
  return tf.io.parse_single_example(record, {"inputs": feature, "targets": feature})


def write_records(folder) -> str:
  path = str(folder / "words.tfrecord")
  with tf.io.TFRecordWriter(path) as writer:
    for word in WORDS:
      value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[word.encode()]))
      features = tf.train.Features(feature={"inputs": value, "targets": value})
      writer.write(tf.train.Example(features=features).SerializeToString())
  return path


def text_source(folder):
  (folder / "words.txt").write_text("\n".join(WORDS) + "\n")
  files = dict.fromkeys(("train", "validation"), str(folder / "words.txt"))
  return seqio.TextLineDataSource(files), [from_text]


def record_source(folder):
  files = dict.fromkeys(("train", "validation"), write_records(folder))
  source = seqio.FileDataSource(
    read_file_fn=lambda file: tf.data.TFRecordDataset(file).map(from_record),
    split_to_filepattern=files,
  )
  return source, []


def function_source(folder):
  def words(split, shuffle_files, seed=None):
    return tf.data.Dataset.from_tensor_slices({"inputs": WORDS, "targets": WORDS})

  return seqio.FunctionDataSource(words, splits=["train", "validation"]), []


def tfds_source(folder):
  words = tf.data.Dataset.from_tensor_slices({"inputs": WORDS, "targets": WORDS})
  tfds.dataset_builders.store_as_tfds_dataset(
    name="words",
    version="1.0.0",
    features=tfds.features.FeaturesDict({"inputs": np.str_, "targets": np.str_}),
    split_datasets=dict.fromkeys(("train", "validation"), words),
    data_dir=str(folder),
  )
  return seqio.TfdsDataSource("words:1.0.0", tfds_data_dir=str(folder)), []


@pytest.fixture
def task(workplace):
  added = []

  def add(name, source, steps):
    added.append((seqio.TaskRegistry, name))
    return seqio.TaskRegistry.add(
      name,
      source=source,
      preprocessors=[
        *steps,
        seqio.preprocessors.tokenize,
        seqio.preprocessors.append_eos,
      ],
      output_features=vocabularies.output_features(),
      metric_fns=[score],
    )

  def mix(name, *arguments, **keywords):
    added.append((seqio.MixtureRegistry, name))
    return seqio.MixtureRegistry.add(name, *arguments, **keywords)

  add.mix = mix
  yield add
  for registry, name in added:
    registry.remove(name)


SOURCES = [text_source, record_source, function_source, tfds_source]


@pytest.mark.parametrize("make", SOURCES)
def test_seqios_own_sources(task, make, tmp_path):
  task("plain", *make(tmp_path))
  (made,) = prepare(tmp_path / "stores", MIXTURE="plain", TRAIN_STEPS=2).tasks
  tokenizer = vocabularies.Tokenizer("tiny.model")
  for path in (made.passes[0], made.splits["validation"]):
    store = token_store.TokenStore(path)
    texts = [tokenizer.decode(targets) for _, targets in store.read(range(9))]
    assert sorted(texts) == WORDS
    assert len(set(store.keys.tolist())) == 9
  rows = token_store.TokenStore(made.splits["validation"]).rows
  assert {row["inputs_pretokenized"] for row in rows} == set(WORDS)


def test_a_changed_file_is_noticed(task, tmp_path):
  task("plain", *text_source(tmp_path))
  first = prepare(tmp_path / "stores", MIXTURE="plain", TRAIN_STEPS=2)
  path = tmp_path / "words.txt"
  path.write_text(path.read_text() + "garden\n")
  os.utime(path, (1, 1))  # before the preparation begins
  again = prepare(tmp_path / "stores", MIXTURE="plain", TRAIN_STEPS=2)
  assert again.fingerprint != first.fingerprint
  assert len(token_store.TokenStore(again.tasks[0].passes[0])) == 10


def test_templates_work_over_a_plain_source(task, tmp_path):
  source, _ = function_source(tmp_path)
  key = functools.partial(preprocessors.add_row_key, fields=["inputs"])
  rename = seqio.preprocessors.rekey
  steps = [functools.partial(rename, key_map={"word": "inputs", "inputs": "inputs"})]
  forms = [Template("a", "A {word}", "{word}"), Template("b", "{word} B", "{word}")]
  task("plain", source, [*steps, key, templates.fill(forms)])
  (made,) = prepare(tmp_path / "stores", MIXTURE="plain", TRAIN_STEPS=2).tasks
  store = token_store.TokenStore(made.splits["validation"])
  assert store.rows[0]["inputs_pretokenized"] == "A lamp 0"


def test_seqios_own_mixtures(task, tmp_path, monkeypatch):
  monkeypatch.setenv("T5TUNE_DATA_DIR", os.path.abspath("data"))
  warm = functools.partial(seqio.mixing_rate_num_examples, temperature=2.0)
  task.mix("inner", ["tiny_sums", ("tiny_titles", 5)], default_rate=warm)
  source, _ = function_source(tmp_path)
  task("plain", source, [])
  mixture = task.mix("outer", [("inner", 3), ("plain", lambda t: 6.0)])
  made = prepare(MIXTURE="outer", TRAIN_STEPS=2)
  rates = {t.name: t.rate for t in made.tasks}
  assert rates == {t.name: pytest.approx(mixture.get_rate(t)) for t in mixture.tasks}
  assert rates["plain"] / sum(rates.values()) == pytest.approx(6 / 9)
  assert rates["tiny_sums"] / rates["tiny_titles"] == pytest.approx(300**0.5 / 5)


def fails(task):
  raise ValueError("no rate today")


@pytest.mark.parametrize(
  "rate, words", [(fails, "ValueError: no rate today"), (lambda t: None, "TypeError")]
)
def test_rates_that_fail_are_named(task, rate, words):
  task.mix("wrong", [("tiny_sums", 1.0), ("tiny_titles", rate)])
  with pytest.raises(
    UserError, match=f"the rate of task 'tiny_titles' failed: {words}"
  ):
    prepare(MIXTURE="wrong", TRAIN_STEPS=2)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_wrong_rates_are_named(task, rate):
  task.mix("wrong", [("tiny_sums", 1.0), ("tiny_titles", lambda t: rate)])
  with pytest.raises(UserError, match=f"'wrong': task 'tiny_titles' has rate {rate}"):
    prepare(MIXTURE="wrong", TRAIN_STEPS=2)


def test_the_table_is_json(task, tmp_path):
  from t5tune.data import feed, mixture_table

  made = prepare(TRAIN_STEPS=2)
  data = feed.Feed(made, feed.FeedConfig(8, *made.row_lengths, True, 0))
  told = json.loads(mixture_table.to_json("tiny_mixture", data, 2, True))
  assert [t["rows"] for t in told["tasks"]] == [300, 400]

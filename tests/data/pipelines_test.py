"""Pipelines: what is counted while tokens are written, and what is refused."""

import functools
import itertools
import json
import random

import numpy as np
import pytest
import seqio
import tensorflow as tf
from tiny_project import Quiet, request

from t5tune.data import (
  index,
  pipelines,
  preparation,
  preprocessors,
  registration,
  sources,
  store_names,
  templates,
  token_store,
  vocabularies,
)
from t5tune.data.templates import Template
from t5tune.errors import UserError

FORMS = [Template("say", "Say {word}.", "{word}"), Template("bare", "{word}", "{word}")]


def rows(split):
  return [{"word": f"lamp {i}"} for i in range(12)]


@pytest.fixture
def register():
  added = []

  def add(name="made", source=None, forms=FORMS, **arguments):
    source = source or sources.GeneratedSource(
      rows, {"word": str}, ["train", "validation"]
    )
    arguments.setdefault("metric_fns", [lambda targets, predictions: {"x": 0.0}])
    added.append(name)
    return registration.add(name, source, forms, **arguments)

  yield add
  for name in added:
    seqio.TaskRegistry.remove(name)


@pytest.fixture
def written(workplace, tmp_path):
  """Writes a task's training store and returns it."""

  def write(task, pass_index=0, split="train", template=None, **changes):
    asked = index.Request(**{**vars(request()), **changes})
    job = pipelines.job(task, split, asked, tmp_path, pass_index, template)
    pipelines.write(task, job, asked, lambda: None)
    return token_store.TokenStore(job.path)

  return write


def test_what_is_lost_is_counted(register, written, workplace):
  words = ["short", "a long one with many words in it", "a~b\n~c", "^"]
  made = [{"word": w} for w in words]
  source = sources.GeneratedSource(
    lambda split: made, {"word": str}, ["train", "validation"]
  )
  task = register(source=source, forms=FORMS[1:])
  lengths = {"input_length": 16, "target_length": 8}
  store = written(task, **lengths)
  encode = vocabularies.Tokenizer(workplace / "tiny.model").encode
  sizes = [len(encode(w)) + 1 for w in words]
  manifest = store.manifest
  for part, limit in (("inputs", 16), ("targets", 8)):
    over = [n - limit for n in sizes if n > limit]
    assert manifest["truncated"][part] == len(over) > 0
    assert manifest["lost_tokens"][part] == sum(over)
  assert manifest["lost_characters"] == {"~": 4, "\n": 2, "^": 2}
  assert manifest["rows"] == 4 and manifest["skipped"] == 0
  assert manifest["escape"] == {"inputs": False, "targets": False}


def test_escaped_text_loses_nothing(register, written, workplace):
  made = [{"word": "a~b\n  {c}"}]
  source = sources.GeneratedSource(
    lambda split: made, {"word": str}, ["train", "validation"]
  )
  task = register(source=source, forms=FORMS[1:], escape=True)
  store = written(task, input_length=64, target_length=64)
  assert store.manifest["lost_characters"] == {}
  tokenizer = vocabularies.Tokenizer(workplace / "tiny.model")
  assert [tokenizer.decode(t, escape=True) for t in store[0]] == [made[0]["word"]] * 2


def test_a_pipeline_of_its_own_making_tells_no_losses(register, written):
  def reverse(dataset):
    return dataset.map(lambda row: {**row, "inputs": row["inputs"][::-1]})

  task = register()
  steps = task._preprocessor_constructor_args
  task = task.replace(preprocessors=[*steps[:2], reverse, steps[2]])
  store = written(task, input_length=6)
  assert store.manifest["truncated"] is None
  assert store.manifest["lost_characters"] is None


def test_keys_tell_rows_that_ask_the_same(register, written):
  made = [{"word": w} for w in ("a", "b", "a")]
  source = sources.GeneratedSource(
    lambda split: made, {"word": str}, ["train", "validation"]
  )
  task = register(source=source)
  keys = written(task).keys
  assert keys[0] == keys[2] != keys[1]
  for other in (written(task, pass_index=1), written(task, None, "validation")):
    np.testing.assert_array_equal(other.keys, keys)


def test_evaluation_may_use_another_template(register, written):
  task = register()
  for template, text in ((None, "Say lamp 0."), ("bare", "lamp 0")):
    store = written(task, None, "validation", template)
    assert store.rows[0]["inputs_pretokenized"] == text


def by_chance(dataset):
  return dataset.map(
    lambda row: {
      **row,
      "word": row["word"] + tf.strings.as_string(tf.random.uniform([])),
    }
  )


def by_python_chance(dataset):
  def change(word):
    return word + str(random.random()).encode()

  return dataset.map(
    lambda row: {
      **row,
      "word": tf.ensure_shape(tf.numpy_function(change, [row["word"]], tf.string), []),
    }
  )


@seqio.map_over_dataset(num_seeds=1)
def by_seqios_seed(row, seed):
  drawn = tf.random.stateless_uniform([], seed=seed, maxval=9, dtype=tf.int32)
  return {**row, "word": row["word"] + tf.strings.as_string(drawn)}


@pytest.mark.parametrize("step", [by_chance, by_python_chance])
def test_unseeded_randomness_is_named(register, written, step):
  harmless = functools.partial(preprocessors.clean_lines, fields=["word"])
  task = register(steps=[harmless, step])
  wanted = rf"task 'made', .*its preprocessor {step.__name__} \(.*pipelines_test.py:"
  with pytest.raises(UserError, match=wanted):
    written(task)


def test_a_source_that_changes_is_named(register, written):
  task = register()
  source = seqio.FunctionDataSource(
    lambda split, shuffle_files, seed=None: by_chance(
      tf.data.Dataset.from_tensor_slices({"word": ["a"] * 4, "row_key": range(4)})
    ),
    splits=["train"],
  )
  with pytest.raises(UserError, match="its source makes other examples each time"):
    written(task.replace(source=source))


def test_seeded_randomness_is_welcome(register, written):
  task = register(steps=[by_seqios_seed])
  assert len(written(task)) == 12


def test_an_endless_source_is_refused(register, written):
  def endless(split, shuffle_files, seed=None):
    row = {"word": "a", "row_key": 1}
    return tf.data.Dataset.from_tensors(row).repeat()

  source = seqio.FunctionDataSource(endless, splits=["train"])
  with pytest.raises(UserError, match="'made', split 'train': its source never ends"):
    written(register().replace(source=source))


def test_a_cache_of_seqios_is_read(register, written, workplace, tmp_path, monkeypatch):
  task = register()
  steps = task._preprocessor_constructor_args
  cached = task.replace(
    name="cached",
    preprocessors=[seqio.CacheDatasetPlaceholder(), *steps],
  )
  folder = tmp_path / "caches" / "cached"
  folder.mkdir(parents=True)
  with tf.io.TFRecordWriter(str(folder / "train.tfrecord-00000-of-00001")) as writer:
    for i in range(3):
      features = {
        "word": tf.train.Feature(
          bytes_list=tf.train.BytesList(value=[f"kept {i}".encode()])
        ),
        "row_key": tf.train.Feature(int64_list=tf.train.Int64List(value=[i])),
      }
      example = tf.train.Example(features=tf.train.Features(feature=features))
      writer.write(example.SerializeToString())
  described = {
    "word": {"shape": [], "dtype": "string"},
    "row_key": {"shape": [], "dtype": "int64"},
  }
  info = {"num_shards": 1, "features": described, "seqio_version": "0"}
  (folder / "info.train.json").write_text(json.dumps(info))
  (folder / "stats.train.json").write_text(json.dumps({"examples": 3}))
  (folder / "COMPLETED").touch()
  monkeypatch.setattr(seqio.utils, "_GLOBAL_CACHE_DIRECTORIES", [str(folder.parent)])
  before = store_names.cache_dir(task)
  assert before is None and store_names.cache_dir(cached) == str(folder)
  store = written(cached)
  tokenizer = vocabularies.Tokenizer(workplace / "tiny.model")
  kept = ["kept 0", "kept 1", "kept 2"]
  assert [tokenizer.decode(t) for _, t in store.read(range(3))] == kept


def test_several_processes_write_the_same_stores(workplace, tmp_path, monkeypatch):
  monkeypatch.setattr(preparation, "_ROWS_A_WORKER", 100)
  asked = request(TRAIN_STEPS=200)
  found = []
  for processes in (1, 2):
    folder = tmp_path / str(processes)
    made = preparation.prepare(asked, folder, Quiet(), processes)
    found.append(
      {
        str(file.relative_to(folder / "stores")): file.read_bytes()
        for file in sorted((folder / "stores").rglob("*"))
        if file.is_file()
      }
    )
  assert list(found[0]) == list(found[1])
  assert len(list(itertools.chain(*(t.passes for t in made.tasks)))) > 4
  assert found[0] == found[1]


def test_templates_of_a_task_without_any(register):
  task = register()
  assert templates.of_task(task) == tuple(FORMS)
  assert templates.of_task(task.replace(preprocessors=[])) == ()


def misspells(dataset):
  return dataset.map(lambda row: {**row, "word": row["wrod"]})


def test_an_error_in_a_users_step_is_named_with_its_line(register, written):
  wanted = r"its pipeline failed: KeyError: 'wrod' \(.*pipelines_test.py:\d+\)"
  with pytest.raises(UserError, match=wanted):
    written(register(steps=[misspells]))


def test_an_endless_source_is_refused_behind_a_filter_too(register, written):
  def endless(split, shuffle_files, seed=None):
    row = {"word": "a", "row_key": 1}
    return tf.data.Dataset.from_tensors(row).repeat()

  task = register(
    steps=[lambda dataset: dataset.filter(lambda row: row["word"] != "b")]
  )
  source = seqio.FunctionDataSource(endless, splits=["train"])
  with pytest.raises(UserError, match="its source never ends"):
    written(task.replace(source=source))

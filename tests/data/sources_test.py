"""Sources: where rows are found, what is said of wrong ones, and their keys."""

import json
import shutil

import numpy as np
import pytest
import seqio
import tensorflow_datasets as tfds
from tiny_data import ROWS, write_rows

from t5tune.data import rows as rows_lib
from t5tune.data import sources
from t5tune.errors import UserError

FIELDS = {"text": str, "stars": int}
ROW = {"text": "Plain and short .", "stars": 3}


def source(**kwargs):
  return sources.RowSource("sst5", **{"fields": FIELDS} | kwargs)


def test_rows_and_dataset_agree(data_dir):
  wnut = sources.RowSource("wnut17", fields={"tokens": list[str], "tags": list[str]})
  plain = list(wnut.rows("train"))
  assert [{k: r[k] for k in ("tokens", "tags")} for r in plain] == ROWS["wnut17"]
  examples = list(wnut.get_dataset("train").as_numpy_iterator())
  for row, example in zip(plain, examples, strict=True):
    assert [t.decode() for t in example["tokens"]] == row["tokens"]
    assert example["row_key"] == row["row_key"]
    assert example["row_key"].dtype == np.int64


def test_splits_and_counts_follow_the_files(data_dir):
  assert source().splits == ("train", "validation")
  write_rows(data_dir / "sst5" / "extra.jsonl", [ROW] * 7)
  write_rows(data_dir / "sst5" / "test.jsonl", [ROW] * 5)
  tried = source()
  assert tried.splits == ("train", "validation", "test", "extra")
  assert tried.num_input_examples("test") == 5
  write_rows(data_dir / "sst5" / "test.jsonl", [ROW] * 6)
  assert tried.num_input_examples("test") == 6


def test_set_data_dir_goes_before_the_environment(data_dir, tmp_path):
  write_rows(tmp_path / "other" / "sst5" / "train.jsonl", [ROW] * 9)
  sources.set_data_dir(tmp_path / "other")
  try:
    assert source().num_input_examples("train") == 9
  finally:
    sources.set_data_dir(None)
  assert source().num_input_examples("train") == len(ROWS["sst5"])


def test_more_rows_than_a_chunk_keep_their_order(data_dir):
  write_rows(
    data_dir / "sst5" / "train.jsonl", [ROW | {"stars": i} for i in range(600)]
  )
  dataset = source().get_dataset("train")
  assert [r["stars"] for r in dataset.as_numpy_iterator()] == list(range(600))
  assert dataset.cardinality() == 600


def test_a_row_keeps_its_key_wherever_it_stands(data_dir):
  keys = {r["text"]: r["row_key"] for r in source().rows("train")}
  assert len(set(keys.values())) == len(ROWS["sst5"])
  assert all(0 <= key < 2**63 for key in keys.values())
  shuffled = [dict(reversed(row.items())) for row in reversed(ROWS["sst5"])]
  write_rows(data_dir / "sst5" / "other.jsonl", shuffled)
  assert {r["text"]: r["row_key"] for r in source().rows("other")} == keys
  # Stored data depends on it: a new value would silently redraw every template.
  assert rows_lib.row_key({"text": "a", "more": ""}) == rows_lib.row_key({"text": "a"})
  assert rows_lib.row_key(ROW) == 6796024532603223567


def test_line_ends_inside_texts_stay(data_dir):
  path = data_dir / "sst5" / "train.jsonl"
  text = "one\r\ntwo\u2028three\rfour"
  line = json.dumps(ROW | {"text": text}, ensure_ascii=False)
  path.write_bytes(b"\xef\xbb\xbf" + line.encode() + b"\r\n\n" + line.encode())
  assert [r["text"] for r in source().rows("train")] == [text, text]


def test_optional_fields_get_an_empty_value(data_dir):
  optional = {"title": str, "year": int, "actors": list[str]}
  tried = source(optional=optional)
  row = next(tried.rows("train"))
  assert (row["title"], row["year"], row["actors"]) == ("", 0, [])
  example = next(tried.get_dataset("train").as_numpy_iterator())
  assert example["actors"].shape == (0,)
  assert row["row_key"] == next(source().rows("train"))["row_key"]


def refuse_low(row):
  if row["stars"] < 2:
    raise ValueError("field 'stars' is too low: give 2.")


WRONG = [
  ('{"text": "a", "stars": 1', r"train.jsonl:2: not JSON: .* at column 25"),
  ('["a", 1]', r"train.jsonl:2: \[\"a\", 1\] instead of an object.*\"stars\": 1"),
  ('{"txt": "a", "stars": 3}', r":2: field 'text' is missing. Did you mean 'txt'"),
  ('{"text": "a", "stars": "3"}', r":2: field 'stars' is \"3\", where an integer"),
  ('{"text": "a", "stars": 3.0}', r":2: field 'stars' is 3.0, where an integer"),
  ('{"text": "a", "stars": true}', r":2: field 'stars' is true, where an integer"),
  ('{"text": "a", "stars": 9223372036854775808}', r":2: field 'stars' is 9223"),
  ('{"text": null, "stars": 3}', r":2: field 'text' is null, where a text"),
  ('{"text": ["a"], "stars": 3}', r":2: field 'text' is \[\"a\"\], where a text"),
  ('{"text": "\\ud83d", "stars": 3}', r":2: field 'text' is \"\\ud83d\", where a text"),
  ('{"text": " \\r\\n", "stars": 3}', r":2: field 'text' is empty. Fill it in"),
  ('{"text": "a", "stars": 1}', r":2: field 'stars' is too low: give 2"),
]


@pytest.mark.parametrize(("line", "message"), WRONG)
def test_a_wrong_row_is_named_before_any_dataset_exists(data_dir, line, message):
  path = data_dir / "sst5" / "train.jsonl"
  path.write_text(json.dumps(ROW) + "\n" + line + "\n")
  tried = source(check=refuse_low)
  for use in (tried.validate, tried.get_dataset, tried.num_input_examples):
    with pytest.raises(UserError, match=message):
      use("train")


def test_bytes_that_are_no_text_and_empty_files_are_named(data_dir):
  path = data_dir / "sst5" / "train.jsonl"
  path.write_bytes(b'{"text": "\xff"}')
  with pytest.raises(UserError, match=r"train.jsonl:1: not UTF-8"):
    source().validate("train")
  path.write_text("\n")
  with pytest.raises(UserError, match=r"train.jsonl holds no rows"):
    source().validate("train")


def test_missing_data_names_both_ways_and_the_nearest_folder(data_dir, monkeypatch):
  shutil.move(data_dir / "sst5", data_dir / "sst_5")
  for use in (lambda: source().splits, lambda: source().num_input_examples("train")):
    with pytest.raises(UserError) as error:
      use()
    assert "Did you mean 'sst_5'?" in str(error.value)
    assert f"{data_dir / 'sst5'}/<split>.jsonl" in str(error.value)
    assert "python -m t5tune.data.tfds_builders sst5" in str(error.value)
  monkeypatch.delenv("T5TUNE_DATA_DIR")
  with pytest.raises(UserError, match="no data directory is set"):
    source().validate("train")


def test_an_unknown_split_is_answered_with_those_there_are(data_dir):
  with pytest.raises(UserError, match="no split 'trian'. Did you mean 'train'"):
    source().get_dataset("trian")


def test_identity_follows_content_not_place(data_dir, tmp_path):
  before = source().identity("train")
  shutil.copytree(data_dir, tmp_path / "copy")
  sources.set_data_dir(tmp_path / "copy")
  try:
    assert source().identity("train") == before == json.loads(json.dumps(before))
    write_rows(tmp_path / "copy" / "sst5" / "train.jsonl", [ROW])
    assert source().identity("train") != before
  finally:
    sources.set_data_dir(None)


class PlainReviews(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version("1.2.0")

  def _info(self):
    features = {
      "text": tfds.features.Text(),
      "stars": np.int64,
      "words": tfds.features.Sequence(tfds.features.Text()),
    }
    features = tfds.features.FeaturesDict(features)
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    for i, row in enumerate(ROWS["sst5"]):
      yield i, row | {"words": row["text"].split()}


def test_a_prepared_tfds_dataset_is_read_where_there_are_no_files(data_dir, tmp_path):
  PlainReviews(data_dir=tmp_path / "tfds").download_and_prepare()
  tried = source(tfds_name="plain_reviews", optional={"words": list[str]})
  from_files = {row["text"]: row["row_key"] for row in source().rows("train")}
  assert next(tried.rows("train"))["words"] == []
  shutil.rmtree(data_dir / "sst5")
  assert tried.splits == ("train",)
  assert tried.num_input_examples("train") == len(ROWS["sst5"])
  for row in tried.rows("train"):
    assert row["words"] == row["text"].split()
  plain = source(tfds_name="plain_reviews:1.2.0")
  assert {row["text"]: row["row_key"] for row in plain.rows("train")} == from_files
  assert tried.identity("train")["dataset"] == "plain_reviews/1.2.0"
  assert all(path.is_file() for path in tried.files("train"))
  with pytest.raises(UserError, match="TFDS plain_reviews/1.2.0, train, row 0: field"):
    source(fields={"txt": str}, tfds_name="plain_reviews").validate("train")


def generate(split):
  return [{"text": f"{split} {i}", "stars": i} for i in range(1, 4)]


def test_generated_rows_are_checked_keyed_and_identified():
  tried = sources.GeneratedSource(generate, FIELDS, splits=("train", "test"))
  assert tried.splits == ("train", "test")
  assert tried.files("train") == []
  assert tried.num_input_examples("test") == 3
  examples = list(tried.get_dataset("train").as_numpy_iterator())
  assert [e["text"].decode() for e in examples] == ["train 1", "train 2", "train 3"]
  assert tried.identity("train") != tried.identity("test")
  assert tried.identity("train") == tried.identity("train")
  wrong = sources.GeneratedSource(generate, {"title": str}, splits=("train",))
  with pytest.raises(UserError, match=r"GeneratedSource\(generate\).*row 0: .*'title'"):
    wrong.get_dataset("train")
  with pytest.raises(UserError, match="no split 'tset'. Did you mean 'test'"):
    tried.validate("tset")


def test_sources_shard_by_example_within_a_task(data_dir):
  task = seqio.Task("sharded", source(), output_features={}, preprocessors=[])
  texts = []
  for i in range(2):
    shard = task.get_dataset(shuffle=False, shard_info=seqio.ShardInfo(i, 2))
    texts += [r["text"].decode() for r in shard.as_numpy_iterator()]
  assert sorted(texts) == sorted(row["text"] for row in ROWS["sst5"])


def test_an_unknown_kind_of_field_is_refused():
  with pytest.raises(UserError, match="'stars' is declared as <class 'float'>"):
    source(fields={"stars": float})


def test_rows_left_out_are_neither_checked_nor_read(data_dir):
  rows = [{"id": "1", **ROW, "text": ""}, {"id": "2", **ROW}]
  write_rows(data_dir / "sst5" / "train.jsonl", rows)
  tried = source(leave_out={"id": ["1"]})
  assert [row["text"] for row in tried.rows("train")] == [ROW["text"]]
  assert tried.num_input_examples("train") == 1

"""Bad rows of a task's source: refused, or left out and counted."""

import json

import pytest
import tensorflow_datasets as tfds
from tiny_data import write_rows

from t5tune.data import sources
from t5tune.errors import UserError

FIELDS = {"text": str, "stars": int}
GOOD = [{"text": f"row {i}", "stars": i} for i in range(1, 6)]


def refuse_high(row):
  if row["stars"] > 5:
    raise ValueError("field 'stars' is above 5: give at most 5.")


def source(**changes) -> sources.RowSource:
  return sources.RowSource("sst5", FIELDS, check=refuse_high, **changes)


LINES = [
  b'{"text": "\xff", "stars": 1}',
  b'{"text": "cut", "stars"',
  b'{"text": "no stars"}',
  b'{"text": "high", "stars": 6}',
  b'{"text": "a\\u0000", "stars": 1}',
  b'{"text": "' + b"x" * 2**22 + b'", "stars": 1}',
  b"[]",
]


def test_skipped_rows_are_counted_and_the_first_reported(data_dir):
  path = data_dir / "sst5" / "train.jsonl"
  lines = [json.dumps(row).encode() for row in GOOD]
  path.write_bytes(b"\n".join([*LINES[:4], *lines, *LINES[4:]]))
  tried = source(on_bad_row="skip")
  assert tried.validate("train") == tried.num_input_examples("train") == len(GOOD)
  assert [row["text"] for row in tried.rows("train")] == [row["text"] for row in GOOD]
  examples = tried.get_dataset("train").as_numpy_iterator()
  assert [e["stars"] for e in examples] == [1, 2, 3, 4, 5]
  assert tried.skipped("train") == len(LINES)
  report = tried.skip_report("train")
  assert len(report) == 5
  for number, message in zip([1, 2, 3, 4, 10], report, strict=True):
    assert message.startswith(f"{path}:{number}: ")
  assert (tried.skipped("validation"), tried.skip_report("validation")) == (0, [])
  with pytest.raises(UserError, match="train.jsonl:1: not UTF-8"):
    source().validate("train")


def test_left_out_rows_are_not_skipped_ones(data_dir):
  rows = [{"text": "", "stars": 1, "id": "7"}, *GOOD]
  write_rows(data_dir / "sst5" / "train.jsonl", rows)
  tried = source(on_bad_row="skip", leave_out={"id": ["7"]})
  assert (tried.validate("train"), tried.skipped("train")) == (5, 0)


def test_counts_follow_the_file(data_dir):
  path = data_dir / "sst5" / "train.jsonl"
  tried = source(on_bad_row="skip")
  for bad in (0, 3, 1):
    write_rows(path, [*GOOD, *[{}] * bad])
    assert (tried.validate("train"), tried.skipped("train")) == (5, bad)


def test_a_split_of_bad_rows_alone_is_refused(data_dir):
  write_rows(data_dir / "sst5" / "train.jsonl", [{"text": "no stars"}] * 1200)
  with pytest.raises(UserError) as error:
    source(on_bad_row="skip").get_dataset("train")
  assert "train.jsonl: none of its rows can be used (1,200 bad)" in str(error.value)
  assert "train.jsonl:1: field 'stars' is missing" in str(error.value)


def generate(split):
  return [*GOOD, {"text": None, "stars": 1}, "row"]


def test_generated_rows_are_skipped_too():
  tried = sources.GeneratedSource(generate, FIELDS, ["train"], on_bad_row="skip")
  assert (tried.validate("train"), tried.skipped("train")) == (5, 2)
  assert "row 5: field 'text' is null" in tried.skip_report("train")[0]
  with pytest.raises(UserError, match="row 5: field 'text' is null"):
    sources.GeneratedSource(generate, FIELDS, ["train"]).validate("train")


def test_what_is_skipped_is_part_of_the_identity(data_dir):
  def another_check(row):
    refuse_high(row)
    if row["stars"] > 4:
      raise ValueError("field 'stars' is above 4: give at most 4.")

  stopping, skipping = source(), source(on_bad_row="skip")
  assert skipping.identity("train") == source(on_bad_row="skip").identity("train")
  other = sources.RowSource("sst5", FIELDS, check=another_check, on_bad_row="skip")
  told = [s.identity("train") for s in (stopping, skipping, other)]
  assert len({json.dumps(identity) for identity in told}) == 3


def test_another_policy_is_refused():
  with pytest.raises(UserError, match="on_bad_row = 'drop'"):
    source(on_bad_row="drop")


class BrokenTexts(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    yield from enumerate([{"text": "good"}, {"text": b"\xff"}])


def test_prepared_rows_that_are_not_utf8_are_bad_rows(data_dir, tmp_path):
  BrokenTexts(data_dir=tmp_path / "tfds").download_and_prepare()
  tried = sources.RowSource("broken_texts", {"text": str})
  with pytest.raises(UserError, match=r"TFDS broken_texts/1.0.0, .*: not UTF-8"):
    tried.validate("train")
  skipping = sources.RowSource("broken_texts", {"text": str}, on_bad_row="skip")
  assert [row["text"] for row in skipping.rows("train")] == ["good"]

"""Files of predictions: what is read, and what each mistake is told."""

import gzip
import json

import pytest

from t5tune.errors import UserError
from t5tune.evaluation import prediction_files

ROWS = [
  {"dialogue": "A: hi\nB: ho", "s1": "one", "s2": "two", "prediction": "They greet."},
  {"dialogue": "C: no", "s1": "three", "s2": "four", "prediction": ""},
]


@pytest.fixture
def rows(tmp_path):
  file = tmp_path / "rows.jsonl"
  file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
  return file


def test_one_file_with_everything(rows):
  read = prediction_files.read(rows, reference_fields=("s1", "s2"))
  assert read.texts == ["They greet.", ""]
  assert read.references == [["one", "two"], ["three", "four"]]
  assert read.sources == ["A: hi\nB: ho", "C: no"]
  assert prediction_files.read(rows, None, ["s1"], "s2").sources == ["two", "four"]


def test_texts_beside_their_references(rows, tmp_path):
  texts = tmp_path / "out.txt"
  texts.write_bytes("Sí.\r\n\r\n".encode())
  read = prediction_files.read(texts, rows, ["s1"])
  assert read.texts == ["Sí.", ""]
  assert read.references == [["one"], ["three"]]


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "is empty"),
    (b'{"prediction": "a"', "line 1: not JSON"),
    (b'["a"]', "line 1: not a JSON object"),
    (b'{"references": ["a"], "predictions": "b"}', "Did you mean 'predictions'"),
    (b'{"references": ["a"], "prediction": 3}', "'prediction' must be a text, not 3"),
    (b'{"references": [], "prediction": "b"}', "at least one"),
    (b'{"references": ["a", " "], "prediction": "b"}', "none of them empty"),
    (b'{"references": 3, "prediction": "b"}', "must be texts"),
    (b'{"prediction": "b"}', "no field 'references'"),
    (b'{"prediction": "\xff"}', "byte 16 is not UTF-8"),
  ],
)
def test_a_file_that_is_not_as_described(tmp_path, content, message):
  file = tmp_path / "made.jsonl"
  file.write_bytes(content)
  with pytest.raises(UserError, match=message) as raised:
    prediction_files.read(file)
  assert str(file) in str(raised.value)


def test_numbers_of_rows_that_differ(rows, tmp_path):
  texts = tmp_path / "out.txt"
  texts.write_text("one\n")
  with pytest.raises(UserError, match="1 predictions, .* 2 rows"):
    prediction_files.read(texts, rows, ["s1"])
  with pytest.raises(UserError, match="--references=FILE.jsonl"):
    prediction_files.read(texts)
  with pytest.raises(UserError, match="cannot read"):
    prediction_files.read(tmp_path / "absent.jsonl")


def test_files_of_other_rows_are_not_compared(rows):
  one = prediction_files.read(rows, reference_fields=["s1"])
  prediction_files.check_same_rows(one, one)
  other = prediction_files.read(rows, reference_fields=["s2"])
  with pytest.raises(UserError, match="row 1 of"):
    prediction_files.check_same_rows(one, other)


def test_a_packed_file(rows, tmp_path):
  packed = tmp_path / "rows.jsonl.gz"
  packed.write_bytes(gzip.compress(rows.read_bytes()))
  read = prediction_files.read(packed, reference_fields=["s1"])
  assert read.texts == ["They greet.", ""]
  packed.write_bytes(packed.read_bytes()[:-12])
  with pytest.raises(UserError, match=r"rows.jsonl.gz is no whole gzip file"):
    prediction_files.read(packed, reference_fields=["s1"])


@pytest.mark.parametrize(
  ("cut", "share"), [((True, False), 0.5), ((False, False), 0.0), ((True, None), None)]
)
def test_the_share_of_answers_at_the_cap(tmp_path, cut, share):
  file = tmp_path / "rows.jsonl"
  rows = [{**row, "cut": c} for row, c in zip(ROWS, cut, strict=True)]
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  assert prediction_files.read(file, reference_fields=["s1"]).at_cap == share

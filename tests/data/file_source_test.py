"""The source of a user's own files: splits, texts, references and bad rows."""

import json

import pytest
from file_formats_test import write

from t5tune.data import file_source, user_files
from t5tune.errors import UserError

SHARE = 0.2
TABLE = [
  {"asked": f"Question {i} of row?", "more": "", "told": f"Answer, {i}", "id": i}
  for i in range(400)
]


def source(path, **changes) -> file_source.FileSource:
  given = {"inputs": "{asked} {more}", "targets": "{told}", "validation_share": SHARE}
  return file_source.FileSource(user_files.FileTask(str(path), **given | changes))


def texts(made: file_source.FileSource, split: str, field: str = "asked") -> list[str]:
  return [row[field] for row in made.rows(split)]


@pytest.fixture
def path(tmp_path):
  write(tmp_path / "rows.jsonl", TABLE)
  return tmp_path / "rows.jsonl"


def test_every_row_is_in_one_of_two_splits(path):
  made = source(path)
  assert made.splits == ("train", "validation")
  train, held_out = texts(made, "train"), texts(made, "validation")
  assert sorted(train + held_out) == sorted(row["asked"] for row in TABLE)
  assert 0.1 < len(held_out) / len(TABLE) < 0.3
  assert made.num_input_examples("train") == len(train)
  with pytest.raises(UserError, match="no split 'test'. .*set TEST_FILE"):
    made.validate("test")


def test_more_rows_move_none(path, tmp_path):
  before = {s: texts(source(path), s) for s in ("train", "validation")}
  more = [row | {"asked": f"{row['asked']} again"} for row in TABLE]
  write(tmp_path / "more.jsonl", more[:7] + TABLE + more[7:])
  after = source(tmp_path / "more.jsonl")
  for split, rows_before in before.items():
    assert set(rows_before) < set(texts(after, split))


def test_rows_that_ask_the_same_stay_together(path, tmp_path):
  twins = [
    row | {"asked": row["asked"].replace(" ", "\r\n "), "told": "Another"}
    for row in TABLE
  ]
  write(tmp_path / "twins.jsonl", TABLE + twins)
  made = source(tmp_path / "twins.jsonl")
  for split in made.splits:
    assert texts(made, split) == [
      *texts(source(path), split),
      *(t.replace(" ", "\r\n ") for t in texts(source(path), split)),
    ]


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl.gz", "csv.gz"])
def test_formats_give_the_same_examples(path, tmp_path, ending):
  write(tmp_path / f"rows.{ending}", TABLE)
  made = source(tmp_path / f"rows.{ending}", inputs="{id}: {asked}")
  same = source(path, inputs="{id}: {asked}")
  for split in ("train", "validation"):
    assert list(made.rows(split)) == list(same.rows(split))
  examples = made.get_dataset("validation").as_numpy_iterator()
  assert [e["asked"].decode() for e in examples] == texts(same, "validation")


def test_given_files_are_the_splits(path, tmp_path):
  write(tmp_path / "held_out.csv", TABLE[:3])
  made = source(
    path, validation_file=str(tmp_path / "held_out.csv"), test_file=str(path)
  )
  assert made.splits == ("train", "validation", "test")
  assert [made.num_input_examples(s) for s in made.splits] == [400, 3, 400]
  assert made.files("validation") == [tmp_path / "held_out.csv"]


def test_identity_follows_rows_and_split_not_the_place(path, tmp_path):
  (tmp_path / "else").mkdir()
  copy = (tmp_path / "else" / "named.jsonl").write_bytes(path.read_bytes())
  assert copy
  first = source(path).identity("train")
  assert first == json.loads(json.dumps(first))
  assert source(tmp_path / "else" / "named.jsonl").identity("train") == first
  others = [
    source(path).identity("validation"),
    source(path, validation_share=0.1).identity("train"),
    source(path, inputs="{asked}").identity("train"),
    source(path, references=["{id}"]).identity("train"),
    source(path, validation_file=str(path)).identity("train"),
  ]
  write(path, TABLE[1:])
  others.append(source(path).identity("train"))
  assert len({json.dumps(i) for i in [first, *others]}) == 7


BAD = [
  ({"asked": "a", "more": "b"}, "field 'told' is missing. Did you mean 'told_'?"),
  ({"asked": None, "more": "b", "told": "c"}, "field 'asked' is null. Fill it in"),
  ({"asked": " ", "more": "", "told": "c"}, "fields 'asked' and 'more' are all empty"),
  (
    {"asked": "a", "more": "", "told": "\n"},
    "field 'told' is empty. Fill in or remove",
  ),
  ({"asked": "a", "more": "", "told": {}}, "field 'told' is {}, where a text or"),
  ({"asked": "a", "more": "\0", "told": "c"}, "field 'more' holds a NUL"),
  (["a"], r'\["a"\] instead of an object. .*"told": "..."'),
]


@pytest.mark.parametrize(("row", "message"), BAD)
def test_a_bad_row_stops_or_is_skipped_and_counted(tmp_path, row, message):
  row = row | {"told_": ""} if len(row) == 2 else row
  path = tmp_path / "rows.jsonl"
  path.write_text("\n".join(map(json.dumps, [*TABLE[:60], row])))
  split = {"validation_file": str(path)}
  with pytest.raises(UserError, match=f"rows.jsonl:61: {message}.*ON_BAD_ROW = 'skip'"):
    source(path, **split).validate("train")
  skipping = source(path, on_bad_row="skip", **split)
  assert skipping.validate("train") == 60
  assert skipping.skipped("train") == 1
  assert "rows.jsonl:61" in skipping.skip_report("train")[0]
  # Of a file with both splits, every row that is bad counts in one of them.
  shared = source(path, on_bad_row="skip")
  assert sum(map(shared.skipped, shared.splits)) == 1
  assert sum(map(shared.num_input_examples, shared.splits)) == 60


def test_references_are_those_that_a_row_has(tmp_path):
  table = [
    {"asked": "a", "told": "1", "b": "2", "c": None},
    {"asked": "d", "told": "1", "b": "", "c": 3},
    {"asked": "e", "told": "1"},
  ]
  path = tmp_path / "rows.jsonl"
  path.write_text("\n".join(map(json.dumps, table)))
  given = {"inputs": "{asked}", "references": ["{b}", "{{{c}}} or {b}", "{c}"]}
  made = source(path, validation_file=str(path), **given)
  assert [row["further_references"] for row in made.rows("train")] == [["2"], ["3"], []]


def test_too_few_rows_for_two_splits_are_told_of(tmp_path):
  path = tmp_path / "rows.csv"
  write(path, TABLE[:1])
  counts, messages = {}, {}
  for split in source(path).splits:
    try:
      counts[split] = source(path).validate(split)
    except UserError as error:
      messages[split] = str(error)
  assert list(counts.values()) == [1] and len(messages) == 1
  for split, message in messages.items():
    assert f"rows.csv: none of its rows falls into the split {split!r}" in message
    assert "VALIDATION_SHARE = 0.2" in message


@pytest.mark.parametrize("split", ["train", "validation"])
def test_an_empty_file_and_one_of_bad_rows_are_named(tmp_path, split):
  path = tmp_path / "rows.jsonl"
  path.touch()
  with pytest.raises(UserError, match="rows.jsonl holds no rows"):
    source(path).validate(split)
  path.write_text('{"asked": "a"}\n' * 8)
  made = source(path, validation_file=str(path), on_bad_row="skip")
  with pytest.raises(
    UserError, match=r"none of its rows .* \(8 bad\). The first: .*:1: "
  ):
    made.validate(split)

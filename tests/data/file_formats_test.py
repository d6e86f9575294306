"""File formats: the rows of a user's file, and what is said of one that has none."""

import csv
import gzip
import json

import pyarrow
import pytest
from pyarrow import parquet

from t5tune.data import file_formats, rows
from t5tune.errors import UserError

COLUMNS = ("question", "answer")
ROWS = [
  {"question": 'He said "no",\nthen\tleft.', "answer": "è ünï 日本 😀", "n": "1"},
  {"question": "plain", "answer": "  spaced ", "n": "2"},
  {"question": "it's 'quoted'\r\nover lines", "answer": "{braces}", "n": "3"},
]


def write(path, table=ROWS) -> None:
  """Writes rows in the format that the path's name tells."""
  name = path.name.removesuffix(".gz")
  if name.endswith(".parquet"):
    parquet.write_table(pyarrow.Table.from_pylist(table), path)
    return
  opened = gzip.open if path.suffix == ".gz" else open
  with opened(path, "wt", newline="", encoding="utf-8") as file:
    if name.endswith(".jsonl"):
      file.writelines(json.dumps(row) + "\n" for row in table)
      return
    delimiter = "," if name.endswith(".csv") else "\t"
    writer = csv.DictWriter(file, list(table[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(table)


def read(path, columns=COLUMNS, optional=()) -> list:
  return list(file_formats.read(path, columns, optional))


@pytest.mark.parametrize(
  "ending", ["jsonl", "csv", "tsv", "parquet", "jsonl.gz", "CSV.GZ", "tsv.gz"]
)
def test_every_format_gives_the_same_rows(tmp_path, ending):
  written = tmp_path / f"my.rows.{ending.lower()}"
  write(written)
  path = written.rename(tmp_path / f"my.rows.{ending}")
  found = read(path)
  assert [{name: row[name] for name in COLUMNS} for _, row in found] == [
    {name: row[name] for name in COLUMNS} for row in ROWS
  ]
  # Lines are counted as an editor does, quoted ones too.
  places = [where.removeprefix(str(path)) for where, _ in found]
  if "parquet" in ending:
    assert places == [": row 1", ": row 2", ": row 3"]
  elif "jsonl" in ending:
    assert places == [":1", ":2", ":3"]
  else:
    assert places == [":2", ":4", ":5"]


@pytest.mark.parametrize("name", ["a.json", "a", "a.txt", "a.parquet.gz", ".gz"])
def test_another_format_is_refused(tmp_path, name):
  with pytest.raises(UserError, match=r"\.jsonl, \.csv, \.tsv, \.parquet"):
    file_formats.format_of(tmp_path / name)


def test_a_missing_column_is_answered_with_those_there_are(tmp_path):
  for ending in ("csv", "tsv", "parquet"):
    write(tmp_path / f"a.{ending}")
    with pytest.raises(UserError) as error:
      read(tmp_path / f"a.{ending}", ["anwser"])
    assert f"a.{ending} has no column 'anwser'. Did you mean 'answer'?" in str(
      error.value
    )
  (tmp_path / "a.csv").write_text("question;answer\n1;2\n")
  with pytest.raises(
    UserError, match="'question;answer'. Columns are separated by a c"
  ):
    read(tmp_path / "a.csv")


def test_optional_columns_are_read_where_there_are_any(tmp_path):
  write(tmp_path / "a.parquet")
  found = read(tmp_path / "a.parquet", ["answer"], ["n", "m"])
  assert [row for _, row in found] == [
    {"answer": r["answer"], "n": r["n"]} for r in ROWS
  ]


CSV = [
  (b"a,b,c\n", ":2: 3 cells where the header has 2"),
  (b"a\n", ":2: 1 cells where the header has 2"),
  (b"\xe9,b\n", ":2: not UTF-8"),
  (b'"a"b,c\n', r":2: not CSV: ',' expected after '\"'"),
  (b"a\rb,c\n", ":2: not CSV: new-line character seen in unquoted field. Put"),
  (b"x" * (rows.MAX_LINE + 1) + b",c\n", ":2: a line of 4,194,308 bytes"),
]


@pytest.mark.parametrize(("line", "message"), CSV)
def test_a_bad_line_of_csv_is_named_and_those_behind_it_are_read(
  tmp_path, line, message
):
  path = tmp_path / "a.csv"
  path.write_bytes(b"\xef\xbb\xbfquestion, answer\r\n" + line + b'\n"good\nrow",yes\n')
  (_, bad), (where, good) = read(path)
  with pytest.raises(rows.BadRow, match=message):
    raise bad
  assert (where, good) == (f"{path}:4", {"question": "good\nrow", "answer": "yes"})


@pytest.mark.parametrize("behind", [10, 500_000])
def test_an_open_quote_takes_no_rows_away_silently(tmp_path, behind):
  path = tmp_path / "a.csv"
  path.write_text('question,answer\nq,a\nq,"open\n' + "more,rows\n" * behind)
  with pytest.raises(UserError, match=r"a.csv:3: a quote that opens .* not closed"):
    read(path)


def test_a_header_that_cannot_be_read_spoils_the_file(tmp_path):
  path = tmp_path / "a.csv"
  path.write_bytes(b"question,answer\xe9\nq,a\n")
  with pytest.raises(UserError, match="a.csv:1: not UTF-8"):
    read(path)
  path.write_text("question,answer,answer,,\nq,a,b,,\n")
  with pytest.raises(UserError, match="a.csv:1: column 'answer' stands twice"):
    read(path)
  assert read(path, ["question"])[0][1]["question"] == "q"
  path.write_text("\n")
  assert read(path) == []


def test_kinds_of_values_become_text(tmp_path):
  table = pyarrow.table(
    {
      "int": [7],
      "float": [0.1],
      "narrow": pyarrow.array([0.1], pyarrow.float32()),
      "bool": [True],
      "category": pyarrow.array(["x"]).dictionary_encode(),
      "bytes": ["é".encode()],
      "null": pyarrow.array([None], pyarrow.string()),
      "nan": [float("nan")],
      "list": [["x"]],
      "broken": pyarrow.array([b"\xff"]).view(pyarrow.string()),
    }
  )
  parquet.write_table(table, tmp_path / "a.parquet")
  ((where, row),) = read(tmp_path / "a.parquet", table.column_names)
  texts = {n: file_formats.as_text(where, n, row[n]) for n in table.column_names[:6]}
  assert texts == {
    **{"int": "7", "float": "0.1", "narrow": "0.1"},
    **{"bool": "true", "category": "x", "bytes": "é"},
  }
  for name, message in {
    "null": "row 1: field 'null' is null. Fill it in",
    "nan": "row 1: field 'nan' is NaN. Fill it in",
    "list": r"row 1: field 'list' is \[\"x\"\], where a text or a number is needed",
    "broken": "row 1: field 'broken' is not UTF-8",
  }.items():
    with pytest.raises(rows.BadRow, match=message):
      file_formats.as_text(where, name, row[name])


def test_what_is_no_parquet_is_named(tmp_path):
  (tmp_path / "a.parquet").write_text("question,answer\n")
  with pytest.raises(UserError, match="a.parquet cannot be read as Parquet"):
    read(tmp_path / "a.parquet")

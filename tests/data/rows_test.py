"""Rows: lines read within bounds, and what is said of those that are no rows."""

import gzip
import json
import tracemalloc

import pytest

from t5tune.data import rows
from t5tune.errors import UserError

SCHEMA = rows.Schema({"text": str}, {}, None)


def read(path) -> list:
  return list(rows.read_json_lines(path))


def test_a_packed_file_reads_as_the_plain_one(tmp_path):
  content = b"\xef\xbb\xbf" + b'{"text": "a\\u00e9"}\r\n\n{"text": "b"}'
  (tmp_path / "a.jsonl").write_bytes(content)
  (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(content))
  plain = read(tmp_path / "a.jsonl")
  assert [row for _, row in plain] == [{"text": "aé"}, {"text": "b"}]
  assert [where.rpartition(":")[2] for where, _ in plain] == ["1", "3"]
  packed = read(tmp_path / "a.jsonl.gz")
  assert [row for _, row in packed] == [row for _, row in plain]


def test_a_line_without_end_does_not_fill_the_memory(tmp_path):
  path = tmp_path / "long.jsonl.gz"
  with gzip.open(path, "wb", compresslevel=1) as file:
    file.write(b'{"text": "first"}\n')
    for _ in range(64):
      file.write(b"x" * 2**20)
    file.write(b'\n{"text": "third"}\n')
  tracemalloc.start()
  (_, first), (where, bad), (_, third) = read(path)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert (first["text"], third["text"]) == ("first", "third")
  assert where == f"{path}:2" and isinstance(bad, rows.BadRow)
  assert str(bad).startswith(f"{path}:2: a line of {64 * 2**20 + 1:,} bytes")
  assert peak < 5 * rows.MAX_LINE


def test_the_longest_line_is_a_row(tmp_path):
  path = tmp_path / "a.jsonl"
  text = "x" * (rows.MAX_LINE - len(json.dumps({"text": ""})) - 1)
  path.write_text(json.dumps({"text": text}) + "\n" + json.dumps({"text": text + "yy"}))
  (_, row), (_, bad) = read(path)
  assert row == {"text": text}
  assert isinstance(bad, rows.BadRow)


@pytest.mark.parametrize(
  ("line", "message"),
  [
    (b'{"text": "\xff"}', r"a.jsonl:1: not UTF-8 \(byte 11\)"),
    (b"[" * 100_000, r"a.jsonl:1: not JSON that can be read"),
    (b'{"text": ' + b"1" * 5000 + b"}", r"a.jsonl:1: not JSON that can be read"),
    (b'{"text": "a\\u0000b"}', r"a.jsonl:1: field 'text' holds a NUL .* character 2"),
  ],
)
def test_a_bad_row_is_named_and_those_behind_it_are_read(tmp_path, line, message):
  path = tmp_path / "a.jsonl"
  path.write_bytes(line + b'\n{"text": "good"}\n')
  bad, good = read(path)
  with pytest.raises(rows.BadRow, match=message):
    SCHEMA.row(*bad)
  assert SCHEMA.row(*good)["text"] == "good"


def test_nul_is_found_in_lists_too():
  with pytest.raises(rows.BadRow, match="here: field 'words' holds a NUL"):
    rows.Schema({"words": list[str]}, {}, None).row("here", {"words": ["a", "\0"]})


@pytest.mark.parametrize("size", [3, 25])
def test_a_damaged_packed_file_is_named(tmp_path, size):
  path = tmp_path / "a.jsonl.gz"
  path.write_bytes(gzip.compress(b'{"text": "a"}\n' * 9)[:size])
  with pytest.raises(UserError, match=r"a.jsonl.gz:\d+: not a whole gzip file"):
    read(path)
  path.write_bytes(b'{"text": "a"}\n')
  with pytest.raises(UserError, match=r"a.jsonl.gz:1: not a whole gzip file"):
    read(path)

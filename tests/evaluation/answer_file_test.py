"""A file of answers: whole under its name, resumed after its last whole line."""

import pytest

from t5tune.errors import UserError
from t5tune.evaluation.answer_file import AnswerFile

MADE_BY = {"checkpoint": "run", "num_beams": None, "lengths": (4, 2)}


def test_the_name_is_given_at_the_end(tmp_path):
  path = tmp_path / "out.jsonl"
  file = AnswerFile(path, MADE_BY)
  assert file.done == 0
  file.append(["one", "zwei ä"])
  assert not path.exists()
  file.append(["three"])
  file.finish()
  assert path.read_text() == "one\nzwei ä\nthree\n"
  assert [p.name for p in tmp_path.iterdir()] == ["out.jsonl"]


def test_half_a_line_is_written_again(tmp_path):
  path = tmp_path / "out.jsonl"
  AnswerFile(path, MADE_BY).append(["one", "two"])
  with (tmp_path / "out.jsonl.partial").open("a") as partial:
    partial.write('{"half')
  file = AnswerFile(path, MADE_BY)
  assert file.done == 2
  file.append(["three"])
  file.finish()
  assert path.read_text() == "one\ntwo\nthree\n"


def test_other_settings_do_not_go_on(tmp_path):
  path = tmp_path / "out.jsonl"
  AnswerFile(path, MADE_BY).append(["one"])
  with pytest.raises(UserError, match="num_beams = None, now it is 4"):
    AnswerFile(path, MADE_BY | {"num_beams": 4})
  assert AnswerFile(path, MADE_BY).done == 1


def test_nothing_is_written_over(tmp_path):
  path = tmp_path / "out.jsonl"
  path.write_text("precious\n")
  with pytest.raises(UserError, match="is there already"):
    AnswerFile(path, MADE_BY)
  assert path.read_text() == "precious\n"


def test_two_do_not_write_one_file(tmp_path):
  path = tmp_path / "out.jsonl"
  first = AnswerFile(path, MADE_BY)
  with pytest.raises(UserError, match="is being written by another process"):
    AnswerFile(path, MADE_BY)
  first.append(["one"])
  path.write_text("another's\n")
  with pytest.raises(UserError, match="is there already"):
    first.finish()
  assert path.read_text() == "another's\n"


@pytest.mark.parametrize("settings", [None, "{", "[]"])
def test_a_file_that_nobody_has_begun_is_kept(tmp_path, settings):
  partial = tmp_path / "out.jsonl.partial"
  partial.write_text("precious\n")
  if settings is not None:
    (tmp_path / "out.jsonl.partial.json").write_text(settings)
  with pytest.raises(UserError, match="does not say how .* was begun"):
    AnswerFile(tmp_path / "out.jsonl", MADE_BY)
  assert partial.read_text() == "precious\n"


def test_a_place_that_cannot_be_written(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot write"):
    AnswerFile(tmp_path / "file" / "out.jsonl", MADE_BY)

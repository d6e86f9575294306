"""`python -m t5tune.score`: what a user types, and what stands on the screen."""

import json
import os
import pathlib
import threading

import pytest
from shared_data import shared_dir

from t5tune import score
from t5tune.errors import UserError

DIALOGUE = "Ana: I am at home.\nBo: Bring the ladder at six!\nAna: Ok.\nBo: Bye."


def write(path, predictions):
  rows = [
    {
      "dialogue": DIALOGUE,
      "references": [f"Ana brings ladder {i}.", "She is at home."],
      "prediction": prediction,
    }
    for i, prediction in enumerate(predictions)
  ]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


@pytest.fixture
def before(tmp_path):
  return write(tmp_path / "before.jsonl", ["Cas sleeps.", "", "Bye.", "Ana."] * 6)


@pytest.fixture
def after(tmp_path):
  right = [f"Ana brings ladder {i}." for i in range(24)]
  return write(tmp_path / "after.jsonl", right)


def lines(capsys) -> list[list[str]]:
  text = capsys.readouterr().out
  return [
    line.replace("│", " ").replace("┃", " ").split() for line in text.splitlines()
  ]


def test_systems_stand_beside_humans_and_trivial_ones(before, capsys):
  assert score.main([before, "--rouge=hf,dialogsum_paper"]) == 0
  shown = lines(capsys)
  assert ["hf,", "rows:", "24"] in shown
  for name in ("human", "LEAD-3", "LONGEST-3"):
    assert sum(line[:1] == [name] for line in shown) == 2  # once a profile
  fingerprints = [line[-1] for line in shown if line[:2] == ["ROUGE", "profile:"]]
  assert fingerprints == [
    "rouge|stem=1|nl=sent|ref=first|agg=mean|v1",
    "rouge|tok=py-rouge|w=1.2|stem=1|nl=one|ref=mean|agg=mean|v1",
  ]
  system = next(line for line in shown if line[0].endswith("before.jsonl"))
  # "Cas", which the dialogue lacks, of Cas and Ana; "Bye" begins its sentence in both.
  assert system[-3:] == ["1.0", "–", "33.3%"]


def test_of_two_files_the_gain_is_told(before, after, capsys):
  score.main([before, after])
  shown = lines(capsys)
  start = next(
    i for i, line in enumerate(shown) if line[:3] == ["default:", "gain", "over"]
  )
  gain = next(
    line for line in shown[start:] if line and line[0].endswith("after.jsonl")
  )
  assert gain[1].startswith("+") and float(gain[1]) > 30
  assert "< 0.001" in " ".join(gain)


def test_of_few_rows_there_is_no_p(tmp_path, capsys):
  files = [write(tmp_path / f"{i}.jsonl", ["Ana.", "Bo."]) for i in range(2)]
  score.main(files)
  assert "p is not given for fewer than 20 rows" in capsys.readouterr().out


def test_a_pipe_is_read_once(before, tmp_path, capsys):
  pipe = tmp_path / "pipe"
  os.mkfifo(pipe)
  writer = threading.Thread(
    target=lambda: pipe.write_bytes(pathlib.Path(before).read_bytes())
  )
  writer.start()
  score.main([str(pipe)])
  writer.join()
  assert ["default,", "rows:", "24"] in lines(capsys)


def test_references_on_their_own_and_the_best_of_them(after, capsys):
  score.main([after, "--each_reference", "--over_references=max"])
  shown = lines(capsys)
  assert "rouge|stem=1|nl=sent|ref=max|agg=mean|v1" in sum(shown, [])
  first = next(line for line in shown if line[1:3] == ["1", "100.00"])
  assert first[0].endswith("after.jsonl")
  assert any(line[0] == "2" for line in shown if line)


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--rouge=dialogsum"], "Did you mean 'dialogsum_paper'"),
    (["--reference_fields=reference"], "Did you mean 'references'"),
    (["--source_field=dialog"], "Did you mean 'dialogue'"),
    (["--over_references=best"], "--over_references"),
    (["absent.jsonl"], "cannot read absent.jsonl"),
  ],
)
def test_mistakes_are_named(before, flags, message):
  with pytest.raises(UserError, match=message):
    score.main([before, *flags])


def test_references_alone_need_as_many_in_every_row(tmp_path):
  file = tmp_path / "uneven.jsonl"
  rows = [{"references": ["a"] * n, "prediction": "a"} for n in (1, 2)]
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  with pytest.raises(UserError, match="different numbers"):
    score.main([str(file), "--each_reference"])


def test_the_published_output(capsys):
  shared = shared_dir()
  score.main(
    [
      str(shared / "fixtures/rouge/dialogsum_bart_output.txt"),
      f"--references={shared}/data/dialogsum/validation.jsonl",
      "--reference_fields=summary1,summary2,summary3",
      "--rouge=dialogsum_paper",
    ]
  )
  shown = lines(capsys)
  assert any(line[1:2] == ["45.22"] for line in shown)
  assert any(line[:2] == ["human", "54.77"] for line in shown)


def test_answers_at_the_cap_are_told(before, tmp_path, capsys):
  rows = [json.loads(line) for line in pathlib.Path(before).open()]
  rows = [{**row, "cut": i % 6 == 0} for i, row in enumerate(rows)]
  file = tmp_path / "cut.jsonl"
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  score.main([str(file)])
  text = " ".join(capsys.readouterr().out.split())
  assert "warning: 16.7% of cut.jsonl was cut at a length limit" in text

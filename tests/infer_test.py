"""`python -m t5tune.infer`: files, pipes and a conversation; killed and resumed."""

import io
import json

import pytest
import tiny_checkpoint

from t5tune import generation, infer
from t5tune.errors import UserError
from t5tune.evaluation import answer_file

ROWS = [{"id": i, "input": f"Row {i}. " + "Bo waits. " * (i % 5)} for i in range(20)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  return tiny_checkpoint.write(tmp_path_factory.mktemp("model") / "run")


@pytest.fixture
def rows(tmp_path):
  file = tmp_path / "rows.jsonl"
  file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
  return file


def run(checkpoint, *flags) -> None:
  assert infer.main([f"--checkpoint={checkpoint}", *flags]) == 0


def test_rows_come_back_in_order_with_their_answers(checkpoint, rows, tmp_path):
  out = tmp_path / "out.jsonl"
  flags = ("--num_beams=3", "--n_best=2", "--beam_rules=hf", "--batch_size=4")
  run(checkpoint, f"--input={rows}", f"--output={out}", *flags)
  made = [json.loads(line) for line in out.read_text().splitlines()]
  assert [{k: row[k] for k in ("id", "input")} for row in made] == ROWS
  model = generation.load(checkpoint)
  config = generation.decode_config(12, num_beams=3, n_best=2, beam_rules="hf")
  answers = model.answers([row["input"] for row in ROWS], config)
  for row, answer in zip(made, answers, strict=True):
    best = answer.candidates[:2]
    assert row["prediction"] == row["candidates"][0]["text"] == best[0].text
    assert row["candidates"][1]["text"] == best[1].text
    assert row["score"] == pytest.approx(best[0].score, abs=1e-4)
    assert row["cut"] == best[0].cut


def test_killed_and_resumed_equals_uninterrupted(
  checkpoint, rows, tmp_path, monkeypatch, capsys
):
  flags = [f"--input={rows}", "--temperature=0.9", "--seed=4", "--batch_size=1"]
  whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
  run(checkpoint, *flags, f"--output={whole}")

  answers, calls = generation.Generator.answers, []

  def die_at_the_third_call(self, *args, **kwargs):
    calls.append(kwargs["first_row"])
    if len(calls) == 3:
      raise KeyboardInterrupt
    return answers(self, *args, **kwargs)

  with monkeypatch.context() as patch:
    patch.setattr(generation.Generator, "answers", die_at_the_third_call)
    with pytest.raises(KeyboardInterrupt):
      run(checkpoint, *flags, f"--output={broken}")
  assert calls == [0, 8, 16] and not broken.exists()
  with pytest.raises(UserError, match="seed = 4, now it is 5"):
    run(checkpoint, *flags, "--seed=5", f"--output={broken}")
  with open(f"{broken}.partial", "a") as partial:
    partial.write('{"id": 16, "inp')
  capsys.readouterr()
  run(checkpoint, *flags, f"--output={broken}")
  assert "Continuing after 16 of 20 answers" in capsys.readouterr().err
  assert broken.read_text() == whole.read_text()
  with pytest.raises(UserError, match="is there already"):
    run(checkpoint, *flags, f"--output={broken}")


def test_killed_after_the_last_line(checkpoint, rows, tmp_path, monkeypatch):
  out = tmp_path / "out.jsonl"
  with monkeypatch.context() as patch:
    patch.setattr(answer_file.AnswerFile, "finish", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      run(checkpoint, f"--input={rows}", f"--output={out}")
  assert not out.exists()
  run(checkpoint, f"--input={rows}", f"--output={out}")
  assert len(out.read_text().splitlines()) == len(ROWS)


def test_fields_of_an_earlier_answer_are_not_kept(checkpoint, tmp_path):
  file, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
  row = {"input": "Ana rows.", "score": 9.9, "candidates": ["old"], "prompt_cut": 7}
  file.write_text(json.dumps(row) + "\n")
  run(checkpoint, f"--input={file}", f"--output={out}")
  assert set(json.loads(out.read_text())) == {"input", "prediction", "cut"}


def test_a_tasks_prompt(checkpoint, tmp_path):
  dialogue = "Ana: Hi!\nBo: Hello."
  named, plain = tmp_path / "named.jsonl", tmp_path / "plain.jsonl"
  named.write_text(json.dumps({"dialogue": dialogue}) + "\n")
  prompt = f"Summarize a dialogue.\n\n{dialogue}"
  plain.write_text(json.dumps({"input": prompt}) + "\n")
  outs = [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
  run(checkpoint, f"--input={named}", f"--output={outs[0]}", "--task=dialogsum")
  run(checkpoint, f"--input={plain}", f"--output={outs[1]}")
  one, two = (json.loads(out.read_text())["prediction"] for out in outs)
  assert one == two
  for task, message in {
    "dialogsum/tldrr": "Did you mean 'tldr'",
    "dialogsm": "Did you mean 'dialogsum'",
    "multitask": "no task with templates",
  }.items():
    with pytest.raises(UserError, match=message):
      run(checkpoint, f"--input={named}", "--output=-", f"--task={task}")
  with pytest.raises(UserError, match="no field 'dialogue'"):
    run(checkpoint, f"--input={plain}", "--output=-", "--task=samsum")


def test_text_goes_through_a_pipe(checkpoint, tmp_path, capsys):
  prompts = tmp_path / "prompts.txt"
  prompts.write_text("Ana rows.\n" + "boat " * 80 + "\nBo sleeps.\n")
  run(checkpoint, f"--input={prompts}", "--output=-")
  shown = capsys.readouterr()
  model = generation.load(checkpoint)
  expected = model.generate(prompts.read_text().splitlines())
  assert shown.out.split("\n")[:-1] == expected
  assert "1 of 3 prompts were cut at 48 tokens" in shown.err


def test_a_conversation(checkpoint, capsys, monkeypatch):
  monkeypatch.setattr("sys.stdin", io.StringIO("Ana rows.\n\nBo sleeps.\n"))
  run(checkpoint, "--interactive", "--max_length=6")
  model = generation.load(checkpoint)
  expected = model.generate(["Ana rows.", "Bo sleeps."], max_length=6)
  assert capsys.readouterr().out.split("\n")[:2] == expected


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b'{"input": "a"}\n{"input": " "}\n', "rows.jsonl:2: the prompt is empty"),
    (b'{"input": "a"}\n{"inputs": "b"}\n', "rows.jsonl:2: .*Did you mean 'inputs'"),
    (b'{"input": ["a"]}\n', "rows.jsonl:1: .*must be a text"),
    (b'{"input": "a"\n', "rows.jsonl:1: not JSON"),
    (b'{"input": "\xff"}\n', "rows.jsonl:1: not UTF-8"),
    (b"[1]\n", "rows.jsonl:1: not a JSON object"),
    (b"", "holds no prompts"),
    (b'{"input": "a", "id": "\\ud83d"}', "rows.jsonl:1: half a character"),
    (b'{"input": "a", "id": NaN}', "rows.jsonl:1: NaN or Infinity"),
  ],
)
def test_bad_rows_are_named_before_any_is_answered(
  checkpoint, tmp_path, content, message
):
  file = tmp_path / "rows.jsonl"
  file.write_bytes(content)
  with pytest.raises(UserError, match=message):
    run(checkpoint, f"--input={file}", f"--output={tmp_path}/out.jsonl")
  assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ([], "give --input and --output"),
    (["--interactive", "--input=a"], "terminal alone"),
    (["--input=absent.txt", "--output=-"], "absent.txt"),
    (["--input=a", "--output=-", "--batch_size=0"], "--batch_size=0"),
    (["--input=a", "--output=-", "--seed=-1"], "--seed=-1"),
    (["--input=a", "--output=-", "--beam_rules=hf"], "--beam_rules goes with"),
    (["--input=a", "--output=-", "--top_p=2"], "top_p = 2"),
    (["--input=a", "--output=-", "--min_length=9", "--max_length=9"], "no room"),
    (["--input=a", "--output=-", "--num_beams=0"], "^num_beams = 0: "),
    (
      ["--input=a", "--output=-", "--num_beams=2", "--beam_rules=h"],
      "^beam_rules = 'h'",
    ),
    (["--input=a", "--output=-", "--temperature=0"], "^temperature = 0.0: "),
    (["--input=a", "--output=-", "--no_repeat_ngram=-1"], "^no_repeat_ngram = -1: "),
    (["--input=a", "--output=-", "--max_length=1000000"], "from 1 to 16,384"),
    (["--input=a", "--output=-", "--seed=3"], "--seed goes with --temperature"),
    (["--input=a", "--output=-", "--field=x"], "lines of text have no fields"),
    (
      ["--input=a.jsonl", "--output=-", "--task=sst5", "--field=x"],
      "--task says which",
    ),
  ],
)
def test_flags_that_cannot_be(checkpoint, flags, message):
  with pytest.raises(UserError, match=message):
    run(checkpoint, *flags)

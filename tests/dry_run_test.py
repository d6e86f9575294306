"""A dry run shows what a run would see and need, and leaves nothing behind."""

import json

import numpy as np
import pytest
from tiny_data import write_rows
from tiny_project import contents, flags, note_rows, prepare, start

from t5tune import train
from t5tune.data import feed, index


def test_nothing_is_written_and_everything_is_shown(workplace, capsys):
  prepare()
  before = contents(workplace)
  assert train.main([*flags(), "--dry_run"]) == 0
  assert contents(workplace).keys() - before.keys() <= {
    name for name in contents(workplace) if name.startswith("compiled/")
  }
  text = capsys.readouterr().out
  for words in (
    "Mixture tiny_mixture",
    "Lost in a pass over each task",
    "Rows that ask the same",  # notes tell days apart, sums do not all
    "First batch",
    "tiny_titles",
    "Memory of a device",
    "would be used",
  ):
    assert words in text, words
  assert "Step" not in text


def test_rows_that_are_trained_on_are_shown(workplace, monkeypatch, tmp_path, capsys):
  leaked = note_rows(400)[7]
  file = workplace / "data" / "notes" / "validation.jsonl"
  kept = file.read_text()
  try:
    write_rows(file, [*note_rows(6, shift=5), leaked, leaked])
    assert start(None, MIXTURE="tiny_titles", more=["--dry_run"]) == 0
  finally:
    file.write_text(kept)
  text = capsys.readouterr().out
  row = next(line for line in text.splitlines() if "validation" in line and "│" in line)
  cells = [cell.strip() for cell in row.strip("│ ").split("│")]
  assert cells == ["tiny_titles", "validation", "8", "1 (12.5%)", "2 (25.0%)"]
  assert f"Give this note a title: {leaked['note']}" in text


def test_weights_that_are_not_there_are_named_without_a_traceback(workplace, capsys):
  assert start(None, INIT="nowhere/at_all", more=["--dry_run"]) == 2
  assert "nowhere/at_all" in capsys.readouterr().err


def test_a_run_needs_a_work_directory(workplace, capsys):
  assert start(None) == 2
  assert "--workdir is missing" in capsys.readouterr().err
  assert start(None, more=["--dry_run", "--eval_only"]) == 2
  assert "--dry_run and --eval_only" in capsys.readouterr().err


@pytest.mark.parametrize("pack", [True, False])
def test_a_run_says_where_its_batches_come_from(workplace, tmp_path, pack):
  workdir = tmp_path / "run"
  assert start(workdir, PACK=pack, EVAL_STEPS=0, TEST_EXAMPLES=2) == 0
  (made,) = json.loads((workdir / "data.json").read_text())["starts"]
  data = feed.Feed(
    index.PreparedMixture.from_json(made["mixture"]), feed.FeedConfig(**made["feed"])
  )
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").open()]
  known = [(line["step"], line["feed"]) for line in lines if line["kind"] == "train"]
  assert [step for step, _ in known] == [1, 2, 3, 4, 5, 6]
  state, batches = {"window": 0, "row": 0}, iter(data)
  for step, after in known:
    examples, shape, behind = data.take(state)
    batch = next(batches)
    read = data.read(examples, shape)
    assert all(np.array_equal(read[name], batch[name]) for name in batch)
    assert behind == after == data.state_at(step) == data.state_at(step, known[:2])
    state = behind
  targets = [line["target_tokens"] for line in lines if line["kind"] == "train"]
  assert targets[-1] == batch["decoder_loss_weights"].sum()


def test_every_template_is_scored_where_asked(workplace, tmp_path, capsys):
  workdir = tmp_path / "run"
  asked = {"EVAL_TEMPLATE": "all", "TEST_EXAMPLES": 3, "EVAL_STEPS": 0}
  assert start(workdir, MIXTURE="tiny_titles", TRAIN_STEPS=2, **asked) == 0
  for step in (0, 2):
    scores = json.loads((workdir / "scores" / f"test-{step}.json").read_text())
    (task,) = scores["tasks"]
    assert list(task["templates"]) == ["plain", "after", "short"]
    assert task["templates"]["plain"] == task["scores"]
  assert "Headline score over all templates" in capsys.readouterr().out
  one = {**asked, "EVAL_TEMPLATE": "short"}
  assert start(workdir, "eval", MIXTURE="tiny_titles", TRAIN_STEPS=2, **one) == 0
  lines = (workdir / "predictions" / "tiny_titles-test-2.jsonl").read_text()
  assert {json.loads(line)["template"] for line in lines.splitlines()} == {"short"}


@pytest.mark.parametrize(
  "bindings, words",
  [
    ({"EVAL_TEMPLATE": "shrot"}, "EVAL_TEMPLATE = 'shrot'.*Did you mean 'short'"),
    ({"HELD_OUT_TEMPLATES": ["forwad"]}, "'forwad'.*Did you mean 'forward'"),
    ({"HELD_OUT_TEMPLATES": ["forward"]}, "no template is left to train on"),
    ({"DATA_CAP": {"tiny_title": 3}}, "Did you mean 'tiny_titles'"),
  ],
)
def test_settings_that_name_nothing(workplace, bindings, words):
  from t5tune.errors import UserError

  with pytest.raises(UserError, match=words):
    prepare(**bindings)


def test_held_out_templates_and_caps_shape_what_is_trained_on(workplace):
  from t5tune.data import token_store

  made = prepare(
    HELD_OUT_TEMPLATES=["tiny_titles/plain", "words"], DATA_CAP={"tiny_titles": 40}
  )
  sums, titles = (token_store.TokenStore(t.passes[0]) for t in made.tasks)
  assert len(titles) == 40 and titles.manifest["rows"] == 40
  whole = prepare()
  assert len(token_store.TokenStore(whole.tasks[1].passes[0])) == 400
  assert made.fingerprint != whole.fingerprint
  # Evaluation keeps the first template though training never shows it.
  kept = token_store.TokenStore(made.tasks[1].splits["test"]).rows
  assert {row["template"] for row in kept} == {"plain"}
  assert made.tasks[1].splits == whole.tasks[1].splits
  assert len(sums) == 300

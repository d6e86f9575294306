"""`inspect_tasks`: what is registered, and tasks and mixtures in full."""

import subprocess
import sys

import pytest
from inspected import RECIPE, block, cells, inspecting  # noqa: F401
from tiny_project import prepare

from t5tune import inspect_tasks
from t5tune.data import token_store
from t5tune.errors import UserError


def test_everything_that_is_registered(inspect):
  lines = inspect()
  tasks = block(lines, "Tasks of tiny_tasks")
  assert cells(tasks, "tiny_titles") == [
    *("tiny_titles", "train", "400", "3:", "3", "forward", "likeness"),
  ]
  assert cells(tasks, "RowSource(notes)") == ["RowSource(notes)", "validation", "6"]
  assert cells(tasks, "tiny_sums")[1:5] == ["train", "300", "2:", "2"]
  mixtures = block(lines, "Mixtures")
  assert "tiny_mixture tiny_titles 75.0%, tiny_sums 25.0%" in [
    " ".join(line.split()) for line in mixtures
  ]


def test_without_data_tasks_and_mixtures_are_listed_all_the_same(workplace, capsys):
  assert inspect_tasks.main(["--gin.TASK_MODULES=['tiny_tasks']"]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert any("tiny_sums" in x and "no data: no --data_dir" in x for x in lines)
  assert any("Dataset 'sums' not found" in x or "not found" in x for x in lines)


def test_bad_rows_are_told_with_their_line(inspect, workplace):
  file = workplace / "data" / "sums" / "validation.jsonl"
  kept = file.read_text()
  file.write_text(kept + '{"a": 1}\n')
  try:
    lines = inspect()
  finally:
    file.write_text(kept)
  assert any("tiny_sums" in x and "no data: bad rows" in x for x in lines)
  assert "sums/validation.jsonl:10" in "".join(lines)


def test_a_task_in_full(inspect):
  lines = inspect("tiny_titles")
  assert cells(block(lines, "Task tiny_titles"), "metrics") == ["metrics", "likeness"]
  splits = block(lines, "Splits")
  assert cells(splits, "train")[:4] == ["train", "400", "0", "400"]
  assert cells(splits, "test")[:4] == ["test", "5", "0", "5"]
  shown = block(lines, "Templates, and the share")
  shares = {n: float(cells(shown, n)[2][:-1]) for n in ("plain", "after", "short")}
  assert abs(sum(shares.values()) - 100) < 0.2
  assert all(20 < share < 47 for share in shares.values())
  examples = [line for line in lines if line.startswith("Training example")]
  assert [e.split("record ")[1].split(",")[0] for e in examples] == ["0", "200", "399"]
  text = " ".join(line.strip() for line in block(lines, "Training example 1"))
  assert "Our lamp broke, day 0." in text and "The lamp broke" in text
  fill = block(lines, "How full the rows")
  assert [line.split()[0] for line in fill[2:]] == ["padded", "alike", "packed"]
  assert fill[2].split()[4:7] == ["32", "+", "12"]


def test_what_was_cut_and_what_the_vocabulary_lacks(inspect):
  lines = inspect("tiny_titles", INPUT_LENGTH=16)
  mean, cut = cells(block(lines, "Splits"), "train")[4:6]
  above = next(x for x in block(lines, "Lengths in tokens: train") if "cut" in x)
  assert float(mean) <= 16
  assert float(cut[:-1]) > 50 and above.startswith(f"{cut} above the limit and cut")


def test_held_out_templates_have_no_share(inspect):
  lines = inspect("tiny_titles", HELD_OUT_TEMPLATES=["after"])
  shown = block(lines, "Templates, and the share")
  assert cells(shown, "after")[2] == "0.0%"
  assert float(cells(shown, "plain")[2][:-1]) > 40


def test_a_mixture_is_summed_up(inspect):
  lines = inspect("tiny_mixture")
  text = "\n".join(lines)
  assert "Mixture tiny_mixture" in text and "Templates, and" not in text
  splits = block(lines, "Splits")
  assert [line.split()[:2] for line in splits[3:]] == [
    ["tiny_sums", "train"],
    ["validation", "9"],
    ["tiny_titles", "train"],
    ["validation", "6"],
    ["test", "5"],
  ]
  assert "in use" in next(x for x in lines if x.startswith("packed"))
  unpacked = inspect("tiny_mixture", PACK=False)
  assert "in use" in next(x for x in unpacked if x.startswith("alike lengths"))


def test_stores_may_tell_nothing(inspect, monkeypatch):
  prepare(MIXTURE="tiny_sums")
  begin = token_store.TokenStore.__init__

  def without(self, path):
    begin(self, path)
    for name in ("rows", "skipped", "truncated", "lost_tokens", "lost_characters"):
      self.manifest[name] = None
    self.manifest["escape"] = None

  monkeypatch.setattr(token_store.TokenStore, "__init__", without)
  splits = block(inspect("tiny_sums"), "Splits")
  train = cells(splits, "train")
  assert train[1:4] == ["?", "?", "300"] and train.count("?") == 6


MISTAKES = {
  "no such task": (["tiny_titels", *RECIPE], "Did you mean 'tiny_titles'"),
  "no vocabulary": (
    ["tiny_sums", "--data_dir=data", "--gin.TASK_MODULES=['tiny_tasks']"],
    "VOCABULARY is not set",
  ),
  "no such module": (["--gin.TASK_MODULES=['tiny_task']"], "'tiny_tasks'"),
  "step alone": (["--step=3"], "--step goes with --run"),
  "row alone": (["tiny_sums", "--row=3"], "--row goes with --run"),
  "no step": (["--run=finished"], "--run needs --step"),
  "name and run": (["tiny_sums", "--run=x", "--step=1"], "tiny_sums and --run"),
  "recipe and run": ([*RECIPE, "--run=x", "--step=1"], "leave out --gin_file"),
  "no run": (["--run=nowhere", "--step=1"], "--run=nowhere is not a directory"),
  "no work directory": (["--run=data", "--step=1"], "is not the --workdir of a run"),
}


@pytest.mark.parametrize("arguments, words", MISTAKES.values(), ids=MISTAKES)
def test_mistakes(workplace, arguments, words):
  with pytest.raises(UserError) as caught:
    inspect_tasks.main(arguments)
  assert words in str(caught.value)


def test_defaults_fill_in_what_a_run_must_be_told(workplace):
  prepare()  # the same stores, whatever the rest of the recipe
  command = [
    *(sys.executable, "-m", "t5tune.inspect_tasks", "tiny_sums"),
    *("--gin.TASK_MODULES=['tiny_tasks']", "--gin.VOCABULARY=tiny.model"),
    *("--gin.INPUT_LENGTH=32", "--gin.TARGET_LENGTH=12"),
    *("--data_dir=data", "--store_dir=stores"),
  ]
  done = subprocess.run(command, capture_output=True, text=True)
  assert (done.returncode, done.stderr) == (0, "")
  assert "preparing" not in done.stdout
  assert "Task tiny_sums" in done.stdout

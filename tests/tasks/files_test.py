"""The task of a user's own files: its text, its scores, its mixture."""

import pytest
import seqio
from t5tune.tasks import files
from tiny_data import DIALOGUES, SUMMARIES, write_rows

from t5tune.data import definitions, user_files
from t5tune.errors import UserError
from t5tune.evaluation import rouge, text_metrics


@pytest.fixture
def given(tmp_path):
  """Registers the task of a file of dialogues, taken away after the test."""
  pairs = enumerate(zip(DIALOGUES, SUMMARIES, strict=False))
  table = [{"dialogue": f" {d}", "summary": f"{s} ", "n": i} for i, (d, s) in pairs]
  path = write_rows(tmp_path / "chats.jsonl", table)

  def register(**changes):
    settings = {
      "inputs": r"Sum up {{in a word}}:\n{dialogue}",
      "targets": "{summary}",
      "validation_file": str(path),
    }
    task = user_files.FileTask(str(path), **settings | changes)
    return files.register(task)

  yield register
  for name in list(files._registered):
    files._remove(name)


def examples(task, vocabulary, split="validation"):
  task = definitions.with_vocabulary(task, vocabulary)
  lengths = {"inputs": 64, "targets": 32}
  return list(task.get_dataset(lengths, split, shuffle=False).as_numpy_iterator())


def test_rows_become_the_text_that_was_asked_for(given, vocabulary):
  task = given(targets=r"{summary}\tas {n}")
  assert task.name == "my_data"
  found = examples(task, vocabulary)
  assert len(found) == min(len(DIALOGUES), len(SUMMARIES))
  for i, example in enumerate(found):
    inputs = f"Sum up {{in a word}}:\n {DIALOGUES[i]}"
    assert example["inputs_pretokenized"].decode() == inputs
    assert example["targets_pretokenized"].decode() == f"{SUMMARIES[i]} \tas {i}"
    assert example["inputs"][-1] == example["targets"][-1] == 1


def test_the_end_of_a_long_text_can_be_kept(given, vocabulary):
  task = definitions.with_vocabulary(given(cut=("dialogue", "start")), vocabulary)
  lengths = {"inputs": 24, "targets": 32}
  dataset = task.get_dataset(lengths, "validation", shuffle=False)
  for dialogue, example in zip(DIALOGUES, dataset.as_numpy_iterator(), strict=False):
    text = example["inputs_pretokenized"].decode()
    assert text.startswith("Sum up {in a word}:\n") and dialogue.endswith(text[-4:])
    assert len(example["inputs"]) <= 24
    assert example["cut_tokens"] > 0
  for wrong in (("dialog", "end"), ("dialogue", "begin"), ("dialogue",)):
    with pytest.raises(UserError, match="cut|CUT"):
      given(cut=wrong)


def test_the_same_settings_are_registered_once_and_others_in_their_place(given):
  first = given()
  assert given() is first
  second = given(metrics=["bleu"])
  assert second is not first
  assert seqio.TaskRegistry.get("my_data").metric_fns == [text_metrics.bleu]
  assert given(name="another").name == "another"


def test_names_that_are_taken_are_refused(given, data_dir):
  with pytest.raises(
    UserError, match="TASK_NAME = 'samsum': 'samsum' is already a task"
  ):
    given(name="samsum")
  seqio.MixtureRegistry.add("mine_replay", ["samsum"], default_rate=1)
  try:
    with pytest.raises(UserError, match="TASK_NAME = 'mine': 'mine_replay' is already"):
      given(name="mine", replay="multitask")
  finally:
    seqio.MixtureRegistry.remove("mine_replay")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"metrics": ["rouge", "ruge"]}, "no metric 'ruge'. Did you mean 'rouge'"),
    (
      {"references": ["{n}"], "metrics": ["bleu"]},
      "'bleu' compares with one reference",
    ),
    (
      {"replay": "multitsk"},
      "REPLAY = 'multitsk' is no mix.* Did you mean 'multitask'",
    ),
    ({"test_file": "absent.csv"}, "TEST_FILE = 'absent.csv' is not in"),
  ],
)
def test_what_is_not_there_is_named_and_leaves_nothing_behind(given, changes, message):
  with pytest.raises(UserError, match=message):
    given(**changes)
  assert "my_data" not in seqio.TaskRegistry.names()
  assert given().name == "my_data"


def test_replay_mixes_a_share_in(given, data_dir):
  given(replay="multitask", replay_share=0.4)
  mixture = seqio.MixtureRegistry.get(user_files.mixture("my_data", "multitask"))
  assert {"my_data", "samsum"} < {task.name for task in mixture.tasks}
  own = next(task for task in mixture.tasks if task.name == "my_data")
  assert mixture.get_rate(own) / mixture.total_rate == pytest.approx(0.6)
  given()
  assert mixture.name not in seqio.MixtureRegistry.names()


def score(task, outputs, targets, rows=None) -> dict[str, float]:
  """Scores outputs as evaluation does."""
  rows = rows or [{"targets_pretokenized": target} for target in targets]
  read = task.postprocess_fn
  wanted = [
    read(t, example=row, is_target=True) for t, row in zip(targets, rows, strict=True)
  ]
  made = [read(o, example=row) for o, row in zip(outputs, rows, strict=True)]
  scores = {}
  for metric in task.metric_fns:
    scores |= metric(targets=wanted, predictions=made)
  return scores


OUTPUTS = {
  "rouge": ("a small cat", " a small cat\n", "dogs"),
  "bleu": ("the cat sat on the mat", "the cat sat on the mat ", "dogs"),
  "exact_match": ("yes", " yes", "no"),
  "accuracy": ("positive", "positive\n", "negative"),
  "answer_accuracy": (
    "2 x 3 = 6. The answer is 6.",
    "The answer is 6.0",
    "It is 6 or 7",
  ),
  "entity_f1": ("location: Oslo; person: Kari", "person: Kari;location: Oslo", "none"),
}


def test_every_metric_is_tried():
  assert {*OUTPUTS, "star_error"} == set(files.METRICS)


@pytest.mark.parametrize("name", OUTPUTS)
def test_metrics_tell_right_from_wrong(given, name):
  task = given(metrics=[name])
  target, right, wrong = OUTPUTS[name]
  scores = score(task, [right, wrong], [target, target])
  alone = score(task, [right], [target])
  headline = next(iter(alone))
  assert alone[headline] == pytest.approx(100)
  assert scores[headline] < 80


def test_stars_are_read_and_other_targets_refused(given):
  task = given(metrics=["accuracy", "star_error"])
  outputs, targets = ["5 stars", "what?"], ["4", "2"]
  expected = {"accuracy": 0, "mean_absolute_error": 2.0}
  assert score(task, outputs, targets) == expected
  with pytest.raises(UserError, match="'star_error' needs .* there is 'good'"):
    score(task, ["5"], ["good"])


def test_scores_count_every_reference(given, tmp_path, vocabulary):
  table = [{"dialogue": "Hi.", "summary": "A greets.", "other": "Someone says hello."}]
  path = write_rows(tmp_path / "several.jsonl", table)
  task = given(validation_file=str(path), references=["{other}"])
  (example,) = examples(task, vocabulary)
  row = {
    "targets_pretokenized": "A greets.",
    "further_references": [t.decode() for t in example["further_references"]],
  }
  references = ["A greets.", "Someone says hello."]
  assert task.postprocess_fn("A gr", example=row, is_target=True) == references
  found = score(task, ["Someone says hello."], ["A gr"], [row])
  assert found == rouge.rouge([references], ["Someone says hello."])

"""The matrix and the sentence say what the scores say."""

import made_runs
import pytest

from t5tune.evaluation import bootstrap
from t5tune.reporting import forgetting, records


@pytest.fixture
def runs(tmp_path):
  paths = [made_runs.multitask(tmp_path / "all"), made_runs.domain(tmp_path / "chat")]
  return records.read(paths)


def test_changes_count_from_the_first_column(runs):
  made = forgetting.matrix(runs)
  assert made.tasks == list(made_runs.TASKS.items())
  assert [(c.run.name, c.step) for c in made.columns] == [
    *(("all", 0), ("all", 5), ("chat", 9))  # what it began with stands there already
  ]
  values = [made.cells[0, i].value for i in range(3)]
  assert values == [10.0, 30.0, 47.2]
  assert made.cells[0, 0].change is None
  assert made.cells[0, 2].change == pytest.approx(37.2)
  # Of an error less is better.
  assert made.cells[1, 1].change == pytest.approx(1.0)
  assert made.cells[1, 2].change == pytest.approx(0.5)


def test_a_change_has_its_paired_interval_where_it_is_the_mean_of_rows(runs):
  made = forgetting.matrix(runs)
  found = made.cells[1, 1].interval
  rows = [
    [r["scores"]["mean_absolute_error"] for r in runs[0].predictions("stars", step)]
    for step in (0, 5)
  ]
  expected = bootstrap.difference(rows[0], rows[1])
  assert found.mean == pytest.approx(expected.mean)
  assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
  assert found.low < 1.0 < found.high
  assert all(made.cells[2, i].interval is None for i in range(3))  # BLEU


def test_siblings_are_compared_with_the_first_alone(runs, tmp_path):
  path = made_runs.write(tmp_path / "other", {9: {"chat": 31.0}}, ["chat"])
  three = [*runs, *records.read([path])]
  assert forgetting.sentences(three)[2] == "other: lost 16.2 on chat."
  assert forgetting.sentences(three, siblings=True)[2] == "other: gained 1.0 on chat."
  assert forgetting.sentences(three, siblings=True)[:2] == forgetting.sentences(runs)


def test_another_start_stands_beside_the_end_before_it(runs, tmp_path):
  other = {"chat": 29.0, "stars": 1.0, "code": 25.0}
  path = made_runs.write(tmp_path / "other", {0: other, 9: other}, ["chat"])
  made = forgetting.matrix([runs[0], *records.read([path])])
  steps = [(c.run.name, c.step) for c in made.columns]
  assert steps == [("all", 0), ("all", 5), ("other", 0), ("other", 9)]


def test_a_task_that_a_checkpoint_lacks_is_left_empty(tmp_path):
  path = made_runs.write(
    tmp_path / "run", {0: {"chat": 1.0}, 2: {"chat": 2.0, "code": 3.0}}, ["chat"]
  )
  made = forgetting.matrix(records.read([path]))
  assert (1, 0) not in made.cells
  assert made.cells[1, 1].change is None  # the first that has it


def test_the_sentence_parts_what_was_trained_from_the_rest(runs):
  assert forgetting.sentence(runs[0]) == (
    "all: gained 15.0 on average over the 3 tasks it trained on."
  )
  assert forgetting.sentence(runs[1]) == (
    "chat: gained 17.2 on chat, lost 0.4 elsewhere (mean of 2 tasks); most on stars,"
    " −0.5."
  )


def test_what_a_run_did_not_score_before_is_compared_with_the_runs_before(tmp_path):
  paths = [made_runs.multitask(tmp_path / "all")]
  after = {"chat": 47.2, "stars": 1.5, "code": 24.7}
  paths.append(
    made_runs.write(tmp_path / "chat", {0: {"chat": 31.0}, 9: after}, ["chat"])
  )
  runs = records.read(paths)
  assert forgetting.sentences(runs)[1] == (
    "chat: gained 16.2 on chat, lost 0.4 elsewhere (mean of 2 tasks); most on stars,"
    " −0.5."
  )


def test_rows_that_repeat_an_input_are_paired_in_their_order(tmp_path):
  path = made_runs.multitask(tmp_path / "run")
  for step in (0, 5):
    file = path / f"predictions/chat-test-{step}.jsonl"
    file.write_text(file.read_text().replace("chat input 7 <b>", "chat input 6 <b>"))
  (run,) = records.read([path])
  assert forgetting.matrix([run]).cells[0, 1].interval is not None


def test_one_evaluation_compares_nothing(tmp_path):
  path = made_runs.write(tmp_path / "run", {7: {"chat": 1.0}}, ["chat"])
  (run,) = records.read([path])
  assert "only step 7 was evaluated" in forgetting.sentence(run)

"""The batches of a run: the arrays that its steps received, from what it left."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import store_data

from t5tune import errors
from t5tune.data import feed
from t5tune.data.inspection import run_batches

PASSES = 2


@pytest.fixture
def make_run(tmp_path, vocabulary):
  """Feeds a made-up mixture and leaves what training leaves of it."""

  def make_run(pack, steps=60, log_steps=25):
    mixture = store_data.mixture(tmp_path / "stores", (40, 25), (3.0, 1.0), PASSES)
    mixture = dataclasses.replace(mixture, row_lengths=(20, 10))
    config = feed.FeedConfig(4, 20, 10, pack, seed=5)
    batches = feed.Feed(mixture, config).batches()
    received, lines = [], [{"step": 0, "kind": "eval", "task": "task0"}]
    for step in range(1, steps + 1):
      received.append(next(batches))
      if step in (1, steps) or step % log_steps == 0:
        lines.append({"step": step, "kind": "train", "feed": batches.get_state()})
    batches.close()
    workdir = tmp_path / "run"
    workdir.mkdir()
    made = {"mixture": mixture.to_json(), "feed": dataclasses.asdict(config)}
    kept = {"starts": [{"after_step": 0, **made}]}
    (workdir / "data.json").write_text(json.dumps(kept))
    (workdir / "mixture.json").write_text(json.dumps({"train_steps": steps}))
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    (workdir / "run.json").write_text("{}")
    shutil.copy(vocabulary, workdir / "spiece.model")
    return workdir, received

  return make_run


def assert_same(found, wanted):
  assert found.keys() == wanted.keys()
  for name, array in wanted.items():
    assert np.array_equal(found[name], array), name
    assert found[name].dtype == array.dtype


@pytest.mark.parametrize("pack", [True, False])
def test_every_step_of_several_epochs_is_found_again(make_run, pack):
  workdir, received = make_run(pack)
  batches = run_batches.RunBatches(workdir)
  for step in np.random.default_rng(0).permutation(len(received)) + 1:
    assert_same(batches.batch(int(step)).arrays, received[step - 1])


@pytest.mark.parametrize("pack", [True, False])
def test_rows_name_the_examples_that_they_hold(make_run, pack):
  workdir, received = make_run(pack, steps=3)
  batch = run_batches.RunBatches(workdir).batch(3)
  arrays = received[2]
  assert batch.shape == (
    arrays["encoder_input_tokens"].shape[1],
    arrays["decoder_target_tokens"].shape[1],
  )
  assert len(batch.rows) == 4
  for row, examples in enumerate(batch.rows):
    segments = arrays["encoder_segment_ids"][row]
    assert len(examples) == segments.max()
    assert pack or len(examples) == 1
    for segment, example in enumerate(examples, start=1):
      inside = arrays["encoder_input_tokens"][row][segments == segment]
      task = int(example.task.removeprefix("task"))
      own = 1000 * (PASSES * task + example.pass_index) + example.record + 1
      assert set(inside.tolist()) == {own}
      assert example.input_length == len(inside)
      targets = arrays["decoder_segment_ids"][row] == segment
      assert example.target_length == targets.sum()


def test_a_run_that_is_under_way_shows_what_comes(make_run):
  workdir, received = make_run(pack=True, steps=30)
  (workdir / "mixture.json").write_text(json.dumps({"train_steps": 40}))
  with (workdir / "metrics.jsonl").open("a") as f:
    f.write('{"step": 31, "kind": "tr')  # cut short by a kill
  batches = run_batches.RunBatches(workdir)
  assert batches.batch(40).logged == 30
  assert_same(batches.batch(29).arrays, received[28])


def test_without_any_logged_step_the_beginning_is_known(make_run):
  workdir, received = make_run(pack=True, steps=12)
  (workdir / "metrics.jsonl").unlink()
  assert_same(run_batches.RunBatches(workdir).batch(12).arrays, received[11])


@pytest.mark.parametrize("step", [0, -1, 13])
def test_a_step_that_the_run_lacks(make_run, step):
  workdir, _ = make_run(pack=True, steps=12)
  with pytest.raises(errors.UserError, match=f"--step={step}: .* steps 1 to 12"):
    run_batches.RunBatches(workdir).batch(step)


def test_stores_that_are_gone_are_named_with_their_cure(make_run):
  workdir, _ = make_run(pack=True, steps=2)
  gone = workdir.parent / "stores" / "1-0"
  shutil.rmtree(gone)
  with pytest.raises(errors.UserError) as caught:
    run_batches.RunBatches(workdir).batch(1)
  for words in (str(gone), "t5tune.prepare", f"--gin_file={workdir}/config.gin"):
    assert words in str(caught.value)
  assert "more" not in str(caught.value)
  shutil.rmtree(workdir.parent / "stores")
  with pytest.raises(errors.UserError, match="and 3 more"):
    run_batches.RunBatches(workdir).batch(1)


@pytest.mark.parametrize(
  "file, content, words",
  [
    ("data.json", None, "older t5tune.*Start its training again"),
    ("data.json", "{", "cannot be read"),
    ("data.json", '{"mixture": {}}', "another version"),
    ("data.json", '{"starts": [{"after_step": 0}]}', "another version"),
    ("mixture.json", None, "has no mixture.json"),
    ("spiece.model", None, "spiece.model"),
  ],
)
def test_a_work_directory_that_lacks_something(make_run, file, content, words):
  workdir, _ = make_run(pack=True, steps=2)
  (workdir / file).unlink()
  if content is not None:
    (workdir / file).write_text(content)
  with pytest.raises(errors.UserError, match=words):
    run_batches.RunBatches(workdir)


def test_what_is_no_work_directory(tmp_path):
  with pytest.raises(errors.UserError, match="is not a directory"):
    run_batches.RunBatches(tmp_path / "none")
  with pytest.raises(errors.UserError, match="is not the --workdir of a run"):
    run_batches.RunBatches(tmp_path)

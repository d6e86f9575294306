"""The data cap: fewer training rows of a task, always the same ones."""

import contextlib
import json

import pytest
import seqio
from tiny_data import write_rows

from t5tune.data import sources, vocabularies
from t5tune.errors import UserError

ROWS = [{"text": f"review {i}", "stars": i % 5 + 1} for i in range(300)]


@contextlib.contextmanager
def registered(**by_name):
  """Registers tasks with these sources, alone, and takes all caps away at the end."""
  before = {n: seqio.TaskRegistry.get(n) for n in list(seqio.TaskRegistry.names())}
  for name in before:
    seqio.TaskRegistry.remove(name)
  features = vocabularies.output_features()
  for name, source in by_name.items():
    seqio.TaskRegistry.add(name, source, output_features=features, preprocessors=[])
  try:
    yield [seqio.TaskRegistry.get(name) for name in by_name]
  finally:
    sources.set_data_cap(None)
    for name in by_name:
      seqio.TaskRegistry.remove(name)
    for name, task in before.items():
      seqio.TaskRegistry.add_provider(name, task)


def reviews() -> sources.RowSource:
  return sources.RowSource("sst5", {"text": str, "stars": int})


def texts(source, split="train") -> list[str]:
  return [row["text"] for row in source.rows(split)]


@pytest.fixture
def many(data_dir):
  for split in ("train", "validation"):
    write_rows(data_dir / "sst5" / f"{split}.jsonl", ROWS)
  return data_dir / "sst5" / "train.jsonl"


def test_a_cap_keeps_a_stable_part_of_the_training_rows(many):
  with registered(reviews=reviews()) as (task,):
    whole = texts(task.source)
    kept = {}
    for cap in (40, 80, 299):
      sources.set_data_cap(cap)
      kept[cap] = texts(task.source)
      assert len(kept[cap]) == cap == task.num_input_examples("train")
      in_file_order = [text for text in whole if text in set(kept[cap])]
      assert kept[cap] == in_file_order
      examples = task.source.get_dataset("train").as_numpy_iterator()
      assert [e["text"].decode() for e in examples] == kept[cap]
      assert task.num_input_examples("validation") == len(ROWS)
    assert set(kept[40]) < set(kept[80]) < set(kept[299])
    # Spread over the file, not its head: 40 of the first 80 would be far off.
    assert 3 < len(set(kept[40]) & set(whole[:80])) < 20
    # More rows replace as many as they deserve, and move no other.
    sources.set_data_cap(80)
    write_rows(many, [{"text": f"new {i}", "stars": 1} for i in range(30)] + ROWS)
    now = texts(task.source)
    assert len(now) == 80
    assert {text for text in now if text.startswith("review")} < set(kept[80])
    sources.set_data_cap(None)
    assert task.num_input_examples("train") == 330


def test_rows_with_equal_keys_are_capped_too(many):
  write_rows(many, ROWS[:1] * 9)
  with registered(reviews=reviews()) as (task,):
    sources.set_data_cap(4)
    assert texts(task.source) == [ROWS[0]["text"]] * 4


def test_a_cap_is_part_of_the_identity_where_it_leaves_rows_out(many):
  with registered(reviews=reviews()) as (task,):
    found = {}
    for cap in (None, 300, 1000, 299, 40):
      sources.set_data_cap(cap)
      found[cap] = json.dumps(task.source.identity("train"))
      plain = json.dumps(reviews().identity("validation"))
      assert json.dumps(task.source.identity("validation")) == plain
    assert found[None] == found[300] == found[1000]
    assert len(set(found.values())) == 3


def generate(split):
  return ROWS


def test_tasks_are_capped_by_name(many):
  kinds = {"text": str, "stars": int}
  made = sources.GeneratedSource(generate, kinds, splits=("train",))
  with registered(first=reviews(), second=reviews(), third=made) as tasks:
    sources.set_data_cap({"second": 7, "third": 8})
    assert [t.num_input_examples("train") for t in tasks] == [300, 7, 8]
    one = tasks[2].source.identity("train")
    sources.set_data_cap({"second": 7})
    assert [t.num_input_examples("train") for t in tasks] == [300, 7, 300]
    assert tasks[2].source.identity("train") != one
    sources.check_data_cap(tasks)


def test_a_cap_counts_good_rows(many):
  write_rows(many, [*ROWS[:50], *[{}] * 5, *ROWS[50:60]])
  source = sources.RowSource("sst5", {"text": str, "stars": int}, on_bad_row="skip")
  with registered(reviews=source):
    sources.set_data_cap(30)
    assert (len(texts(source)), source.skipped("train")) == (30, 5)


def test_what_cannot_be_capped_is_named(many):
  shared = reviews()
  plain = seqio.FunctionDataSource(lambda split, shuffle_files: None, splits=("train",))
  with registered(first=shared, second=shared, plain=plain) as tasks:
    for cap, message in [
      ({"frist": 3}, "DATA_CAP: no task 'frist' is registered. Did you mean 'first'"),
      ({"first": 0}, "DATA_CAP: 0 for 'first': it must be at least 1"),
      (-1, "DATA_CAP: -1 for"),
      ({"first": 3}, "DATA_CAP: tasks 'first' and 'second' read one source"),
    ]:
      with pytest.raises(UserError, match=message):
        sources.set_data_cap(cap)
    sources.set_data_cap({"first": 3, "second": 3})
    sources.check_data_cap(tasks)
    sources.set_data_cap(3)
    with pytest.raises(UserError, match="'plain' reads a FunctionDataSource, which"):
      sources.check_data_cap(tasks)
    sources.check_data_cap(tasks[:2])


def test_rows_of_an_offline_cache_cannot_be_capped(many, tmp_path):
  task = seqio.Task(
    "cached",
    reviews(),
    output_features=vocabularies.output_features(),
    preprocessors=[seqio.CacheDatasetPlaceholder()],
  )
  (tmp_path / "cached").mkdir()
  (tmp_path / "cached" / "COMPLETED").touch()
  with registered(cached=reviews()):
    sources.set_data_cap(3)
    sources.check_data_cap([task])
    seqio.set_global_cache_dirs([str(tmp_path)])
    try:
      with pytest.raises(UserError, match="'cached' were capped, or not, when its off"):
        sources.check_data_cap([task])
    finally:
      seqio.set_global_cache_dirs([])

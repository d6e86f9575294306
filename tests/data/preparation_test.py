"""Preparation: which stores a run needs, and what SeqIO's tasks write into them."""

import json
import os
import pathlib

import numpy as np
import pytest
import seqio
from tiny_data import write_rows
from tiny_project import note_rows, prepare, request, sum_rows

from t5tune.data import definitions, index, pipelines, token_store, vocabularies
from t5tune.errors import UserError


def tokens(store) -> list[tuple[list[int], list[int]]]:
  store = token_store.TokenStore(store)
  return [(i.tolist(), t.tolist()) for i, t in store.read(range(len(store)))]


@pytest.fixture
def task(workplace):
  """The tasks of the project, registered in this process, by name."""
  definitions.load_tasks(["tiny_tasks"], "data")
  return seqio.TaskRegistry.get


@pytest.fixture
def variant(task, workplace):
  """Registers a changed copy of `tiny_titles` for the time of a test."""
  added = []

  def add(name, mixture=None, **changes):
    seqio.TaskRegistry.add_provider(
      name, task("tiny_titles").replace(name=name, **changes)
    )
    added.append((seqio.TaskRegistry, name))
    if mixture is not None:
      seqio.MixtureRegistry.add(f"{name}_mixture", mixture)
      added.append((seqio.MixtureRegistry, f"{name}_mixture"))
    return seqio.TaskRegistry.get(name)

  yield add
  for registry, name in added:
    registry.remove(name)


def test_a_mixture_is_prepared_once(workplace):
  made = prepare(TRAIN_STEPS=6)
  assert made.name == "tiny_mixture"
  assert [t.name for t in made.tasks] == ["tiny_sums", "tiny_titles"]
  assert [t.rate for t in made.tasks] == [1.0, 3.0]
  assert [len(t.passes) for t in made.tasks] == [1, 1]
  assert [list(t.splits) for t in made.tasks] == [
    ["validation"],
    ["validation", "test"],
  ]
  path = index.path("stores", request(TRAIN_STEPS=6))
  assert index.load(path) == made
  stores = [s for t in made.tasks for s in (*t.passes, *t.splits.values())]
  written = [os.stat(f"{s}/manifest.json").st_mtime_ns for s in stores]
  path.unlink()
  assert prepare(TRAIN_STEPS=6) == made
  assert [os.stat(f"{s}/manifest.json").st_mtime_ns for s in stores] == written


@pytest.mark.parametrize(
  "length", [{"TRAIN_STEPS": 200}, {"TRAIN_STEPS": None, "TRAIN_EPOCHS": 2.5}]
)
def test_passes_are_as_many_as_epochs_up_to_the_limit(workplace, length):
  made = prepare(BATCH_SIZE=8, PACK=False, **length)
  # 700 examples; tiny_titles is fed three times as often as tiny_sums.
  examples = 1600 if "TRAIN_EPOCHS" not in length else 2.5 * 700
  epochs = [examples / 4 / 300, examples * 3 / 4 / 400]
  wanted = [min(int(np.ceil(e)), 4) for e in epochs]
  assert [len(t.passes) for t in made.tasks] == wanted
  # What was read in the first epoch stays the same in a longer run.
  short = prepare(BATCH_SIZE=8, PACK=False, TRAIN_STEPS=6)
  assert made.fingerprint == short.fingerprint
  assert all(
    a.passes[0] == b.passes[0] for a, b in zip(made.tasks, short.tasks, strict=True)
  )


def test_a_task_that_draws_nothing_has_one_pass(task, variant, workplace):
  import tiny_tasks

  from t5tune.data import templates

  steps = task("tiny_titles")._preprocessor_constructor_args
  one = templates.fill(tiny_tasks.TITLE_TEMPLATES[:1])
  variant("one_form", preprocessors=[one, *steps[1:]])
  assert len(prepare(MIXTURE="one_form", TRAIN_STEPS=300).tasks[0].passes) == 1
  # A step of the user's own may draw; a held out template is not drawn.
  variant("own_step", preprocessors=[lambda d: d, one, *steps[1:]])
  assert len(prepare(MIXTURE="own_step", TRAIN_STEPS=300).tasks[0].passes) == 4
  held = {"HELD_OUT_TEMPLATES": ["after", "short"], "TRAIN_STEPS": 300}
  assert len(prepare(MIXTURE="tiny_titles", **held).tasks[0].passes) == 1


def test_passes_meet_every_template_and_each_is_reproduced(task, workplace, tmp_path):
  import tiny_tasks

  tokenizer = vocabularies.Tokenizer(workplace / "tiny.model")
  rows = note_rows(400)
  asked, everything = request(), []

  def build(pass_index, folder=tmp_path, **changes):
    wanted = index.Request(**{**vars(asked), **changes})
    titles = task("tiny_titles")
    job = pipelines.job(titles, "train", wanted, folder, pass_index)
    pipelines.write(titles, job, wanted, lambda: None)
    return pathlib.Path(job.path)

  for pass_index in range(3):
    drawn = []
    found = tokens(build(pass_index))
    for row, (inputs, targets) in zip(rows, found, strict=True):
      texts = {
        t.name: [*tokenizer.encode(t.inputs.format(**row))[:31], 1]
        for t in tiny_tasks.TITLE_TEMPLATES
      }
      assert targets == [*tokenizer.encode(row["title"])[:11], 1]
      drawn.append([name for name, text in texts.items() if text == inputs])
    assert all(len(names) == 1 for names in drawn)
    everything.append([name for (name,) in drawn])
  # Three passes show each row in all three templates, and none is rare in a pass.
  assert all(len(set(names)) == 3 for names in zip(*everything, strict=True))
  assert all(everything[0].count(t.name) > 90 for t in tiny_tasks.TITLE_TEMPLATES)
  first = build(1)
  assert tokens(build(1, tmp_path / "again")) == tokens(first)
  assert build(1, tmp_path / "again").name == first.name
  reseeded = build(1, seed=7)
  assert tokens(reseeded) != tokens(first)
  assert reseeded != first


def test_evaluation_has_the_first_template_and_the_rows(task, workplace):
  tokenizer = vocabularies.Tokenizer(workplace / "tiny.model")
  made = prepare()
  sums = token_store.TokenStore(made.tasks[0].splits["validation"])
  for row, (inputs, targets), kept in zip(
    sum_rows(9), tokens(sums.path), sums.rows, strict=True
  ):
    text = f"Add {row['a']} and {row['b']}."
    assert inputs == [*tokenizer.encode(text), 1]
    assert targets == [*tokenizer.encode(str(row["total"])), 1]
    assert kept["inputs_pretokenized"] == text
    assert kept["targets_pretokenized"] == str(row["total"])
    assert kept["template"] == "words"
    assert {k: kept[k] for k in row} == row
    json.dumps(kept)
  # Whatever the seed: scores of two runs are scores of the same inputs.
  assert prepare(SEED=5).tasks[0].splits == made.tasks[0].splits


def only_tokens(dataset):
  return dataset.map(lambda row: {name: row[name] for name in ("inputs", "targets")})


def test_text_that_a_pipeline_drops_is_decoded(task, variant, workplace):
  steps = task("tiny_titles")._preprocessor_constructor_args
  variant("bare", preprocessors=[*steps, only_tokens])
  made = [prepare(MIXTURE=name).tasks[0].splits for name in ("bare", "tiny_titles")]
  bare, whole = (token_store.TokenStore(splits["validation"]).rows for splits in made)
  names = ("inputs_pretokenized", "targets_pretokenized")
  assert [set(row) for row in bare] == [set(names)] * len(whole)
  # The lengths of the tiny project cut some of the texts.
  for row, wanted in zip(bare, whole, strict=True):
    assert all(wanted[n].startswith(row[n]) and row[n] for n in names)


def test_stores_are_named_by_what_shapes_them(task, variant, workplace, tmp_path):
  def name(task, split="train", pass_index=0, **changes):
    asked = index.Request(**{**vars(request()), **changes})
    path = pathlib.Path(pipelines.job(task, split, asked, tmp_path, pass_index).path)
    return path.name.removeprefix(f"{split}-")

  titles = task("tiny_titles")
  first = name(titles)
  assert name(titles) == first
  # Not by what decides only how much of it is read.
  other = {"eval_template": "short", "held_out_templates": ("signs",)}  # not its own
  assert name(titles, **other) == first
  same = {"train_steps": 99, "batch_size": 3, "pack": False, "row_lengths": (64, 64)}
  assert name(titles, **same) == first
  other_vocabulary = tmp_path / "other.model"
  other_vocabulary.write_bytes((workplace / "tiny.model").read_bytes() + b"\x42\x00")
  others = {
    name(titles, "validation"),
    name(titles, pass_index=1),
    name(titles, pass_index=None),
    name(titles, seed=1),
    name(titles, held_out_templates=("tiny_titles/short",)),
    name(titles, input_length=31),
    name(titles, target_length=13),
    name(titles, vocabulary=str(other_vocabulary)),
    name(variant("reworded", preprocessors=reworded(titles))),
    name(variant("shorter", preprocessors=titles._preprocessor_constructor_args[:2])),
    name(task("tiny_sums")),
  }
  assert len(others | {first}) == 12
  # A name and metrics do not shape tokens.
  assert name(variant("renamed", metric_fns=[print])) == first
  train = workplace / "data" / "notes" / "train.jsonl"
  kept = train.read_text()
  try:
    write_rows(train, note_rows(400, shift=1))
    assert name(titles) != first
  finally:
    train.write_text(kept)


def reworded(task):
  from t5tune.data import templates

  template = templates.Template("plain", "Give that note a title: {note}", "{title}")
  return [templates.fill([template]), *task._preprocessor_constructor_args[1:]]


def by_drawing(dataset):
  return dataset.filter(lambda row: row["template"] == "plain")


def nothing(dataset):
  return dataset.take(0)


def fails(dataset):
  import tensorflow as tf

  check = lambda row: tf.debugging.assert_equal(row["title"], "x", "no such title")  # noqa: E731
  return dataset.map(lambda row: (check(row), row)[1])


@pytest.mark.parametrize(
  "changes, words",
  [
    ({"metric_fns": []}, "has no metric_fns, so its split 'validation'"),
    ({"extra": [by_drawing], "TRAIN_STEPS": 300}, "Run.max_passes = 1"),
    ({"extra": [nothing]}, "gave no example"),
    ({"extra": [fails]}, "its pipeline failed: InvalidArgumentError: .*no such title"),
    ({"output_features": {}}, "no output feature 'inputs'"),
    ({"mixture": [("broken", 0.0)]}, "task 'broken' has rate 0.0"),
  ],
)
def test_tasks_that_cannot_be_run(task, variant, workplace, changes, words):
  bindings = {"TRAIN_STEPS": changes.pop("TRAIN_STEPS", 6)}
  steps = task("tiny_titles")._preprocessor_constructor_args
  if extra := changes.pop("extra", None):
    changes["preprocessors"] = [steps[0], *extra, *steps[1:]]
  name = "broken_mixture" if "mixture" in changes else "broken"
  variant("broken", **changes)
  with pytest.raises(UserError, match=words):
    prepare(MIXTURE=name, **bindings)

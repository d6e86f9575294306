"""Data that move, or change while they are read."""

import os
import shutil

import pytest
import seqio
from tiny_data import write_rows
from tiny_project import Quiet, note_rows, request

from t5tune.data import few_shot, index, preparation, registration, sources
from t5tune.data.templates import Template
from t5tune.errors import UserError

FORMS = [Template("a", "Title: {note}", "{title}"), Template("b", "{note}", "{title}")]


@pytest.fixture
def shown(workplace, tmp_path):
  """A task with exemplars over a copy of the notes; returns how to prepare it."""
  shutil.copytree("data/notes", tmp_path / "rows" / "notes")
  registration.add(
    "shown",
    sources.RowSource("notes", fields={"note": str, "title": str}),
    FORMS,
    shots=few_shot.Shots(most=1, share=0.5),
    metric_fns=[lambda targets, predictions: {"x": 0.0}],
  )

  def prepare(folder=tmp_path / "rows", progress=None, **changes):
    asked = request(MIXTURE="shown", TRAIN_STEPS=2)
    values = {**vars(asked), "data_dir": str(folder), **changes}
    wanted = index.Request(**values)
    return preparation.prepare(wanted, tmp_path / "stores", progress or Quiet())

  prepare.rows = tmp_path / "rows"
  yield prepare
  seqio.TaskRegistry.remove("shown")
  sources.set_data_dir(None)
  sources.set_data_cap(None)


def test_data_that_move_are_the_same_data(shown, tmp_path):
  first = shown()
  shutil.copytree(shown.rows, tmp_path / "elsewhere")
  assert shown(tmp_path / "elsewhere") == first
  capped = shown(data_cap=30)
  assert capped.fingerprint != first.fingerprint
  assert capped.tasks[0].splits == first.tasks[0].splits


@pytest.mark.parametrize("old", [True, False])
def test_a_file_replaced_while_it_is_read_leaves_no_store(shown, old):
  class Replaces(Quiet):
    def begin(self, job):
      file = shown.rows / "notes" / f"{job.split}.jsonl"
      made = write_rows(shown.rows / "new.jsonl", note_rows(400, shift=3))
      if old:  # as `mv` and `cp -p` leave it
        os.utime(made, (1, 1))
      os.replace(made, file)

  with pytest.raises(UserError, match="was changed while its tokens were written"):
    shown(progress=Replaces())
  assert not list((shown.rows.parent / "stores").glob("stores/shown/[a-z]*"))
  shown()


def test_a_file_from_the_future_can_be_used(shown):
  for file in (shown.rows / "notes").iterdir():
    os.utime(file, (2e9, 2e9))
  assert len(shown().tasks) == 1

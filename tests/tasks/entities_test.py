"""Entity recognition: tags become readable text."""

import pytest
import seqio
from task_examples import examples, get_task
from tiny_data import write_rows

from t5tune.errors import UserError


def test_targets_are_readable(vocabulary, data_dir):
  rows = examples(get_task("wnut17", vocabulary))
  assert [row["targets_pretokenized"].decode() for row in rows] == [
    "person: Kari Moe; location: Oslo; creative work: Red Kettle FM",
    "none",
    "group: Tarn; location: Vik",
  ]
  assert "so tired today :'(" in rows[1]["inputs_pretokenized"].decode()


@pytest.mark.parametrize(
  ("tags", "message"),
  [
    (["O"], "2 tokens but 1 tags"),
    (["O", "person"], "field 'tags' has 'person'"),
    (["O", "B-"], "field 'tags' has 'B-'"),
    (["O", "E-person"], "field 'tags' has 'E-person'"),
  ],
)
def test_wrong_tags_are_named(data_dir, tags, message):
  write_rows(
    data_dir / "wnut17" / "train.jsonl", [{"tokens": ["a", "b"], "tags": tags}]
  )
  with pytest.raises(UserError, match=f"train.jsonl:1: {message}"):
    seqio.TaskRegistry.get("wnut17").num_input_examples("train")

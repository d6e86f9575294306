"""What is told of a feed before it runs: estimates against what is then fed."""

import collections
import io
import itertools
import json

import numpy as np
import pytest
from rich.console import Console
from store_data import examples, mixture, write

from t5tune.data import feed, index, mixture_table

LENGTHS = (24, 12)


@pytest.mark.parametrize("pack", [True, False])
def test_summary_against_brute_force(tmp_path, pack):
  sizes = (400, 900, 150)
  made = mixture(tmp_path, sizes=sizes, rates=(2.0, 5.0, 1.0), passes=2)
  data = feed.Feed(made, feed.FeedConfig(16, *LENGTHS, pack, 0))
  steps = 120
  summary = data.summary(steps)
  counts, tokens = collections.Counter(), collections.Counter()
  batches = list(itertools.islice(data, steps))
  totals, room = np.zeros(2), np.zeros(2)
  for batch in batches:
    for row in range(16):
      inputs = batch["encoder_input_tokens"][row]
      targets = batch["decoder_target_tokens"][row]
      totals += (inputs > 0).sum(), (targets > 0).sum()
      room += len(inputs), len(targets)
      for token, group in itertools.groupby(targets[targets > 0].tolist()):
        task = token // 2000  # two passes of up to 1000 examples
        counts[task] += 1
        tokens[task] += len(list(group))
  examples = counts.total()
  near = {"rel": 0.05}  # lengths are taken from the first pass, plans from two windows
  assert summary.examples_per_batch == pytest.approx(examples / steps, **near)
  assert summary.target_tokens_per_batch == pytest.approx(totals[1] / steps, **near)
  found = [summary.input_density, summary.target_density]
  assert found == pytest.approx((totals / room).tolist(), **near)
  assert summary.density == pytest.approx(totals.sum() / room.sum(), **near)
  assert sum(share for _, _, share in summary.row_shapes) == pytest.approx(1)
  assert {shape[:2] for shape in summary.row_shapes} <= set(data.shapes)
  assert pack or len(summary.row_shapes) > 1
  assert summary.steps_per_epoch == pytest.approx(sum(sizes) * steps / examples, **near)
  assert [t.examples for t in summary.tasks] == list(sizes)
  assert [t.passes for t in summary.tasks] == [2, 2, 2]
  for k, task in enumerate(summary.tasks):
    assert task.share == pytest.approx(counts[k] / examples, abs=0.005)
    assert task.token_share == pytest.approx(tokens[k] / totals[1], abs=0.02)
    assert task.epochs == pytest.approx(counts[k] / task.examples, **near)
  assert sum(t.share for t in summary.tasks) == pytest.approx(1)
  assert sum(t.token_share for t in summary.tasks) == pytest.approx(1)


@pytest.fixture
def told(tmp_path) -> feed.Feed:
  """A feed of a task whose store tells all, and of one whose store tells nothing."""
  manifest = {
    "rows": 1234,
    "skipped": 5,
    "truncated": {"inputs": 3, "targets": 0},
    "lost_tokens": {"inputs": 4321, "targets": 0},
    "lost_characters": {"\n": 20_000, "[": 300, "\t": 2, "{": 7000, "é": 1},
  }
  tasks = (
    index.PreparedTask(
      "told", 3, (write(tmp_path / "a", examples(60), **manifest),), {}
    ),
    index.PreparedTask("untold", 1, (write(tmp_path / "b", examples(20)),), {}),
  )
  made = index.PreparedMixture("both", tasks, "fingerprint")
  return feed.Feed(made, feed.FeedConfig(4, *LENGTHS, True, 0))


def printed(data: feed.Feed, chosen: bool = True) -> list[str]:
  console = Console(width=100, file=io.StringIO())
  mixture_table.print_mixture(console, "both", data, 30, chosen)
  return console.file.getvalue().splitlines()


def cells(line: str) -> list[str]:
  return [cell.strip() for cell in line.strip("│").split("│")]


def test_the_table_tells_what_is_known(told):
  lines = printed(told)
  assert max(map(len, lines)) <= 100
  named = [cells(line) for line in lines if cells(line)[0] in ("told", "untold")]
  shares, losses = (
    {name: rest for name, *rest in half} for half in (named[:2], named[2:])
  )
  assert shares["told"][:5] == ["1,234", "5", "60", "3", "75.0%"]
  assert shares["untold"][:5] == ["?", "?", "20", "1", "25.0%"]
  assert losses["told"][:5] == ["5.0%", "4,321", "0.0%", "0", "27,303"]
  assert losses["told"][5].split() == [r"\n", "20,000", "{", "7,000", "[", "300"]
  assert losses["untold"] == ["?", "?", "?", "?", "?", ""]
  text = " ".join(lines)
  assert "Packed rows of 24 + 12 tokens (chosen from the stored lengths)" in text
  assert "(as set)" in " ".join(printed(told, chosen=False))


def test_unpacked_shapes_are_shown_with_their_shares(told):
  data = feed.Feed(told.mixture, feed.FeedConfig(4, *LENGTHS, False, 0))
  text = " ".join(printed(data))
  for s, t, share in data.summary(1).row_shapes:
    assert f"{s} + {t} ({share:.0%})" in text


def test_the_file_holds_what_the_table_shows(told):
  values = json.loads(mixture_table.to_json("both", told, 30, True))
  assert values["mixture"] == "both" and values["train_steps"] == 30
  assert values["lengths_chosen"] and values["row_shapes"] == [[24, 12, 1.0]]
  known, unknown = values["tasks"]
  # What the model card reads.
  assert (known["name"], known["examples"], known["share"]) == ("told", 60, 0.75)
  assert known["epochs"] == pytest.approx(
    30 * values["examples_per_batch"] * 0.75 / 60, rel=1e-6
  )
  assert known["lost_characters"]["\n"] == 20_000
  assert known["truncated_inputs"] == 0.05 and unknown["truncated_inputs"] is None

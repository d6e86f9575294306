"""The demo's rows: four small generated tasks that need neither data nor network.

Before the first stage of the direction of data (text → task → tokens → ...): the
generators behind the tasks of `demo.py`. Pure Python; the same rows everywhere.

No input occurs twice, within a split or across splits, and every row of validation
and test shows at least one name, product or identifier that training never shows.
"""

import random
import types
import zlib
from collections.abc import Iterator

from t5tune.errors import UserError, did_you_mean
from t5tune.tasks import demo_dialogues, demo_entities, demo_methods, demo_reviews
from t5tune.tasks.demo_grammar import Draw

SPLIT_SIZES = {"train": 3500, "validation": 200, "test": 200}
# A change of the generators changes the rows; a change of this seed all of them.
SEED = "t5tune demo 1"
# The generator of each task; the first field of its rows is the input.
GENERATORS: dict[str, types.ModuleType] = {
  "demo_dialogue": demo_dialogues,
  "demo_rating": demo_reviews,
  "demo_code": demo_methods,
  "demo_entities": demo_entities,
}


def rows(task: str, split: str) -> Iterator[dict[str, str]]:
  """Yields the rows of one split of a demo task, always the same ones.

  Args:
    task: a key of `GENERATORS`.
    split: "train", "validation" or "test".

  Yields:
    Dictionaries from field names to text, input first.

  Raises:
    UserError: there is no such task or split.
  """
  for name, known, kind in (
    (task, GENERATORS, "task"),
    (split, SPLIT_SIZES, "split"),
  ):
    if name not in known:
      raise UserError(
        f"the demo has no {kind} {name!r}; it has {', '.join(known)}."
        + did_you_mean(name, known)
      )
  rng = random.Random(f"{SEED} {task} {split}")
  inputs: set[str] = set()
  while len(inputs) < SPLIT_SIZES[split]:
    draw = Draw(rng, split)
    row = GENERATORS[task].example(draw)
    text = next(iter(row.values()))
    if text not in inputs and _belongs(text, draw, split):
      inputs.add(text)
      yield row


def _belongs(text: str, draw: Draw, split: str) -> bool:
  """Says whether a row may stand in `split`: the splits then never share a row.

  An unseen value tells evaluation from training; a bit of the text's checksum tells
  validation from test, without comparing their rows.
  """
  if split == "train":
    return True
  is_test = zlib.crc32(text.encode()) % 2 == 1
  # Drawn is not shown: a code pattern may have no place for an identifier.
  shows_unseen = any(value.lower() in text.lower() for value in draw.unseen)
  return shows_unseen and is_test == (split == "test")

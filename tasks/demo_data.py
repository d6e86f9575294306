"""The demo's rows: four small generated tasks that need neither data nor network.

Before the first stage of the direction of data (text → task → tokens → ...): the
generators behind the tasks of `demo.py`. Pure Python; the same rows everywhere.

No input occurs twice, within a split or across splits, and a quarter of the names,
products and identifiers of validation and test are ones that training never shows.
"""

import random
import types
import zlib
from collections.abc import Iterator

from t5tune.tasks import demo_dialogues, demo_entities, demo_methods, demo_reviews
from t5tune.tasks.demo_grammar import Draw

from t5tune.errors import UserError, did_you_mean

# Rows of each task's training split, and of its two others. Code and names are to be
# copied, which takes more examples to learn than judging does.
TRAIN_ROWS = {
  "demo_dialogue": 4000,
  "demo_rating": 2500,
  "demo_code": 4000,
  "demo_entities": 3500,
}
EVAL_ROWS = 200
# Of 10 inputs, by checksum, how many belong to a split: none then stands in two.
SPLITS = {"train": range(8), "validation": range(8, 9), "test": range(9, 10)}
# A change of the generators changes the rows; a change of this seed all of them.
SEED = "t5tune demo 1"
# The generator of each task; the first field of its rows is the input.
GENERATORS: dict[str, types.ModuleType] = {
  "demo_dialogue": demo_dialogues,
  "demo_rating": demo_reviews,
  "demo_code": demo_methods,
  "demo_entities": demo_entities,
}


def rows(task: str, split: str) -> Iterator[dict[str, str | int]]:
  """Yields the rows of one split of a demo task, always the same ones.

  Args:
    task: a key of `GENERATORS`.
    split: "train", "validation" or "test".

  Yields:
    Dictionaries by field name, the input text first.

  Raises:
    UserError: there is no such task or split.
  """
  for name, known, kind in (
    (task, GENERATORS, "task"),
    (split, SPLITS, "split"),
  ):
    if name not in known:
      raise UserError(
        f"the demo has no {kind} {name!r}; it has {', '.join(known)}."
        + did_you_mean(name, known)
      )
  rng = random.Random(f"{SEED} {task} {split}")
  count = TRAIN_ROWS[task] if split == "train" else EVAL_ROWS
  inputs: set[str] = set()
  while len(inputs) < count:
    row = GENERATORS[task].example(Draw(rng, split))
    text = next(iter(row.values()))
    if text not in inputs and zlib.crc32(text.encode()) % 10 in SPLITS[split]:
      inputs.add(text)
      yield row

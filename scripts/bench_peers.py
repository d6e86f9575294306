#!/usr/bin/env python
"""Measures t5tune beside Hugging Face on the same work, in turn, in one run.

    pip install torch transformers peft      # the other side; without it ours alone
    python scripts/bench_peers.py
    python scripts/bench_peers.py --work=train,lora --gin_file=models/flan_t5_base.gin
    python scripts/bench_peers.py --work=multitask --data_dir=DIR --gin.PACK=False

Works, each with random weights of FLAN-T5 small's shape unless a gin file says otherwise:

train      a step on a full batch of random tokens (8 rows of 256 + 64), dropout 0.1
lora       the same, factors of rank 16 of queries and values alone
multitask  steps on real examples of the mixture `multitask`, ours packed as the recipe
           packs them, theirs the same examples grouped by length and padded
greedy     decoding 8 rows of 256 tokens: every answer 64 tokens long, then answers that
           end at lengths of their own; both sides must say the same
beam       the same with four beams

Every side runs in a process of its own, and on a GPU where it finds one; of one --dtypes
there, for each of our processes takes 45 % of the card's memory. Prints Markdown: seconds,
medians with the lowest and the highest; real tokens a second; and how many times as fast
ours is, by round.
"""

import importlib.util
import sys

from peers import decoding, rounds, training

from t5tune import command_line

SMALL = "models/flan_t5_small.gin"
DTYPES = ("float32", "bfloat16")
WORKS = ("train", "lora", "multitask", "greedy", "beam")
FULL = {
  "BATCH_SIZE": "8",
  "INPUT_LENGTH": "256",
  "TARGET_LENGTH": "64",
  "PACK": "False",
}
MIXED = {
  "BATCH_SIZE": "2",
  "VOCABULARY": "'mini.model'",
  "t5.T5Config.vocab_size": "32128",
}
RANK = 16


def has(*names: str) -> bool:
  """Tells whether the other side can run, and says where not."""
  missing = [name for name in names if not importlib.util.find_spec(name)]
  if missing:
    print(f"Hugging Face is left out: no {', '.join(missing)}", file=sys.stderr)
  return not missing


def ours(name: str, flags, recipe: str, settings: dict, stores=None) -> rounds.Worker:
  """Returns our side; what the command line says comes last."""
  chosen = {"INIT": "'scratch'", **settings, **dict(flags.overrides)}
  gin_files = [recipe, *flags.gin_file]
  return rounds.Worker(f"t5tune {name}", True, training.Ours, gin_files, chosen, stores)


def theirs(name: str, flags, batches, *how) -> rounds.Worker:
  """Returns Hugging Face's side; `how` are `training.HuggingFace`'s last arguments."""
  shape = training.shape_for_hugging_face(flags.gin_file)
  return rounds.Worker(
    f"Hugging Face {name}", False, training.HuggingFace, shape, batches, *how
  )


def count(batches) -> tuple[int, int]:
  """Returns the input and target tokens of batches of lengths."""
  return tuple(sum(pair[i] for batch in batches for pair in batch) for i in (0, 1))


def train(flags) -> rounds.Comparison:
  """Compares steps on full batches."""
  sides = [
    ours(name, flags, "dialogsum.gin", FULL | {"DTYPE": repr(name)})
    for name in flags.dtypes
  ]
  batches = sides[0].about
  if has("torch", "transformers"):
    for dtype, name, optimizer in (
      ("float32", "AdamW", "adamw"),
      ("float32", "Adafactor", "adafactor"),
      ("bfloat16", "AdamW", "adamw"),
    ):
      if dtype in flags.dtypes:
        low = dtype == "bfloat16"
        sides.append(theirs(f"{dtype}, {name}", flags, batches, optimizer, low))
  return compared("A training step", sides, flags, batches)


def lora(flags) -> rounds.Comparison:
  """Compares steps of LoRA alone."""
  how = FULL | {"LORA_RANK": str(RANK), "optimizers.OptimizerConfig.name": "'adamw'"}
  sides = [
    ours(name, flags, "dialogsum.gin", how | {"DTYPE": repr(name)})
    for name in flags.dtypes
  ]
  batches = sides[0].about
  if has("torch", "transformers", "peft"):
    for name in flags.dtypes:
      low = name == "bfloat16"
      sides.append(theirs(f"PEFT {name}", flags, batches, "adamw", low, RANK))
  return compared("A training step of LoRA", sides, flags, batches)


def multitask(flags) -> rounds.Comparison:
  """Compares steps on real examples."""
  stores = flags.data_dir, flags.store_dir
  sides = [
    ours(name, flags, "multitask.gin", MIXED | {"DTYPE": repr(name)}, stores)
    for name in flags.dtypes
  ]
  batches = sides[0].about
  examples = [pair for batch in batches for pair in batch]
  if has("torch", "transformers"):
    grouped = training.grouped_by_length(examples, len(batches))
    for name in flags.dtypes:
      low = name == "bfloat16"
      sides.append(theirs(f"{name}, AdamW", flags, grouped, "adamw", low))
  title = f"{len(batches)} steps, {len(examples)} examples of `multitask`"
  return compared(title, sides, flags, batches)


def compared(title: str, sides, flags, batches) -> rounds.Comparison:
  """Measures, and ends the sides."""
  made = rounds.compare(title, sides, flags.rounds, count(batches))
  for side in sides:
    side.close()
  return made


def decode(flags, beams: int) -> list[rounds.Comparison]:
  """Compares greedy decoding, or beam search."""
  return decoding.compare(beams, flags.rounds, has("torch", "transformers"))


def main(arguments) -> int:
  parser = command_line.parser(
    "bench_peers", __doc__.splitlines()[0], [], ("gin_file", "data_dir", "store_dir")
  )
  parser.prog = "python scripts/bench_peers.py"
  parser.add_argument("--work", default=",".join(WORKS), help=f"of {', '.join(WORKS)}")
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument(
    "--dtypes",
    default=",".join(DTYPES),
    help=f"of {' and '.join(DTYPES)}, in training; each side is a process and keeps its"
    " memory, up to 10 GB in `multitask`",
  )
  flags = parser.parse_args(arguments)
  flags.dtypes = flags.dtypes.split(",")
  for name in flags.dtypes:
    if name not in DTYPES:
      parser.error(f"--dtypes names {name!r}; there is: {', '.join(DTYPES)}")
  flags.gin_file = flags.gin_file or [SMALL]
  for name in flags.work.split(","):
    match name:
      case "train" | "lora" | "multitask":
        made = [{"train": train, "lora": lora, "multitask": multitask}[name](flags)]
      case "greedy" | "beam":
        made = decode(flags, 1 if name == "greedy" else 4)
      case _:
        parser.error(f"--work names {name!r}; there is: {', '.join(WORKS)}")
    for comparison in made:
      print(comparison.text(), flush=True)
  return 0


if __name__ == "__main__":
  command_line.main(main)

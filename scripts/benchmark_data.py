#!/usr/bin/env python
"""Measures the data engine: building, feeding, packing and mixing; SeqIO beside it.

    python scripts/benchmark_data.py --data_dir=DIR --vocabulary=spiece.model

Builds one pass of `multitask` (examples of up to 512 input and 128 target tokens) with
all cores, feeds it on one core, and lets SeqIO feed the same tasks in turn with it. Then
it makes up a mixture of 473 tasks with the same lengths. Each measure runs in a process
of its own; about five minutes, and 400 MB under --scratch.
"""

import argparse
import itertools
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

LONGEST = (512, 128)  # of an example, and of a row where its lengths are not chosen
BATCH_SIZE = 64
TASKS, ROWS = 473, 2000
DRAWS = 100_000
SECONDS = 15  # of each round of feeding
FAR_STEP = 1_000_000


def build(flags: argparse.Namespace, stores: pathlib.Path) -> float:
  """Builds the stores of `multitask` with all cores; returns the seconds it took."""
  settings = {"INIT": "'scratch'", "VOCABULARY": repr(str(flags.vocabulary))}
  settings |= {"INPUT_LENGTH": LONGEST[0], "TARGET_LENGTH": LONGEST[1]}
  settings |= {"TRAIN_STEPS": 1, "BATCH_SIZE": BATCH_SIZE}
  command = [sys.executable, "-m", "t5tune.prepare", "--gin_file=multitask.gin"]
  command += [f"--gin.{name}={value}" for name, value in settings.items()]
  command += [f"--data_dir={flags.data_dir}", f"--store_dir={stores}"]
  began = time.monotonic()
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  if done.returncode:
    raise SystemExit(done.stderr)
  return time.monotonic() - began


def prepared(stores: pathlib.Path) -> dict[str, Any]:
  """Returns the index that the one preparation in a fresh folder has written."""
  (file,) = (stores / "prepared").glob("*.json")
  return json.loads(file.read_text())["index"]["mixture"]


def make_up(source: dict[str, Any], folder: pathlib.Path) -> dict[str, Any]:
  """Writes `TASKS` stores of random tokens in the lengths of `multitask`."""
  from t5tune.data import index, token_store

  rng = np.random.default_rng(0)
  stores = [token_store.TokenStore(task["passes"][0]) for task in source["tasks"]]
  lengths = np.concatenate([store.lengths for store in stores])
  rates = np.exp(rng.normal(7, 1.5, TASKS))
  tasks = []
  for k in range(TASKS):
    path = folder / f"task_{k}"
    with token_store.writing(path, keep_rows=False) as writer:
      for i, size in enumerate(rng.choice(lengths, ROWS)):
        pair = np.split(rng.integers(2, 32_000, size.sum()), size[:1])
        writer.append(*pair, {}, i)
    tasks.append(index.PreparedTask(path.name, float(rates[k]), (str(path),), {}))
  return index.PreparedMixture("made_up", tuple(tasks), "", LONGEST).to_json()


def apart(measure: str, *arguments: Any) -> dict[str, Any]:
  """Runs a measure in a process of its own, on one core; returns what it prints."""
  command = [sys.executable, __file__, "--measure", measure, json.dumps(arguments)]
  done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
  return json.loads(done.stdout.splitlines()[-1])


def open_feed(mixture: dict[str, Any], lengths: tuple[int, int], pack: bool):
  """Returns the feed of a prepared mixture."""
  from t5tune.data import feed, index

  config = feed.FeedConfig(BATCH_SIZE, *lengths, pack, seed=0)
  return feed.Feed(index.PreparedMixture.from_json(mixture), config)


def count(batches: Iterable[dict[str, np.ndarray]]) -> dict[str, Any]:
  """Takes batches for `SECONDS` seconds; returns what they held."""
  examples, filled, room = 0, np.zeros(2), np.zeros(2)
  began = time.monotonic()
  for batch in batches:
    sides = [batch[f"{side}_segment_ids"] for side in ("encoder", "decoder")]
    examples += int(sides[0].max(axis=1).sum())
    filled += [(side > 0).sum() for side in sides]
    room += [side.size for side in sides]
    if time.monotonic() - began > SECONDS:
      break
  seconds = time.monotonic() - began
  return {
    "rate": examples / seconds,
    "fills": [*(filled / room), filled.sum() / room.sum()],
  }


def measure_feed(mixture, lengths, pack: bool) -> dict[str, Any]:
  """Reads, plans and lays out, without the thread that makes batches ahead."""
  data = open_feed(mixture, lengths, pack)
  batches = iter(data)
  next(batches)
  found = count(batches) | {"shapes": data.shapes}
  began = time.monotonic()
  windows = range(10_000, 10_010)
  examples = sum(len(data.plan(w).examples) for w in windows)
  return found | {"planned": examples / (time.monotonic() - began)}


def measure_start(mixture, lengths) -> dict[str, Any]:
  """Opens the stores and makes the batch of the first and of a far step, in turn."""
  seconds = {0: [], FAR_STEP: []}
  for _, step in itertools.product(range(3), seconds):
    began = time.monotonic()
    data = open_feed(mixture, lengths, True)
    batches = data.batches()
    # About where that step is; to know exactly is the checkpoint's part.
    window = step * BATCH_SIZE // data.plan(0).num_rows if step else 0
    batches.set_state({"window": window, "row": 0})
    next(batches)
    seconds[step].append(time.monotonic() - began)
    batches.close()
  return {"near": min(seconds[0]), "far": min(seconds[FAR_STEP])}


def measure_choice(mixture) -> dict[str, Any]:
  """Chooses the lengths of packed rows."""
  from t5tune.data import index, row_lengths

  began = time.monotonic()
  made = index.PreparedMixture.from_json(mixture)
  lengths = row_lengths.choose_row_lengths(made, LONGEST, None, seed=0)
  return {"lengths": lengths, "seconds": time.monotonic() - began}


def measure_many(mixture) -> dict[str, Any]:
  """Starts a mixture of many tasks; then counts its draws against its rates."""
  data = open_feed(mixture, LONGEST, True)
  batches = data.batches()
  next(batches)
  began = float(pathlib.Path("/proc/self/stat").read_text().split()[21])
  up = float(pathlib.Path("/proc/uptime").read_text().split()[0])
  seconds = up - began / os.sysconf("SC_CLK_TCK")  # since the process began
  batches.close()
  data.summary(1000)
  fed = count(iter(data))
  shares = data.examples.order.shares
  drawn = data.examples.draws(0, DRAWS)["task"]
  off = np.abs(np.bincount(drawn, minlength=len(shares)) - DRAWS * shares)
  return fed | {
    "start": seconds,
    "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,  # KiB
    "off": off.max(),
    "errors": (off / np.sqrt(DRAWS * shares * (1 - shares))).max(),
  }


def measure_seqio(data_dir: str, vocabulary: str, lengths) -> dict[str, Any]:
  """Lets SeqIO make, mix, shuffle and pack the examples of the same tasks."""
  from t5tune.data import definitions

  seqio = definitions.import_seqio()
  definitions.load_tasks(["t5tune.tasks.mixtures"], data_dir)
  rated = definitions.get_tasks("multitask")
  tasks = [(definitions.with_vocabulary(t, vocabulary), rate()) for t, rate in rated]
  began = time.monotonic()
  dataset = seqio.get_dataset(
    seqio.Mixture("benchmark", tasks),
    dict(zip(("inputs", "targets"), lengths, strict=True)),
    seqio.EncDecFeatureConverter(pack=True),
    shuffle=True,
    num_epochs=None,
    seed=0,
  )
  batches = dataset.batch(BATCH_SIZE, drop_remainder=True).as_numpy_iterator()
  first = next(batches)
  start = time.monotonic() - began
  assert first["encoder_input_tokens"].shape == (BATCH_SIZE, lengths[0])
  return count(batches) | {"start": start}


MEASURES = {
  "feed": measure_feed,
  "start": measure_start,
  "choice": measure_choice,
  "many": measure_many,
  "seqio": measure_seqio,
}


def fills(found: dict[str, Any]) -> str:
  inputs, targets, both = (f"{fill:.1%}" for fill in found["fills"])
  return f"{both} full (inputs {inputs}, targets {targets})"


def measure_all(flags: argparse.Namespace, scratch: pathlib.Path) -> Table:
  """Returns the table of all measures."""
  table = Table("measure", "found", "asked for", title="Data engine")

  def row(name: str, found: str, asked: str = "") -> None:
    table.add_row(name, found, asked)
    print(f"{name}: {found}", file=sys.stderr, flush=True)

  seconds = build(flags, scratch / "multitask")
  mixture = prepared(scratch / "multitask")
  tasks = mixture["tasks"]
  train, scored = (
    sum(len(np.load(f"{store}/lengths.npy")) for store in stores)
    for stores in (
      [task["passes"][0] for task in tasks],
      [store for task in tasks for store in task["splits"].values()],
    )
  )
  cores = len(os.sched_getaffinity(0))
  name = f"build {train:,} examples and {scored:,} of evaluation, {cores} cores"
  row(name, f"{seconds:.1f} s", "90 s")
  choice = apart("choice", mixture)
  chosen = tuple(choice["lengths"])
  row("choose row lengths", f"{chosen[0]} + {chosen[1]} in {choice['seconds']:.1f} s")
  for lengths in (LONGEST, chosen):
    title = f"rows of {lengths[0]} + {lengths[1]}"
    for round_ in (1, 2):  # in turn, so that neither has the quieter machine
      ours = apart("feed", mixture, lengths, True)
      told = f"{ours['rate']:,.0f} examples/s, {fills(ours)}"
      asked = "5,000 examples/s" if lengths == LONGEST else "90% full"
      row(f"feed packed, {title}, round {round_}", told, asked)
      theirs = apart("seqio", str(flags.data_dir), str(flags.vocabulary), lengths)
      told = f"{theirs['rate']:,.0f} examples/s, {fills(theirs)}"
      row(f"SeqIO packed, {title}, round {round_}", told)
    row(f"SeqIO, first batch, {title}", f"{theirs['start']:.1f} s")
    row(f"plan packed, {title}", f"{ours['planned']:,.0f} examples/s", "100,000")
  alone = apart("feed", mixture, LONGEST, False)
  shapes = ", ".join(f"{s} + {t}" for s, t in alone["shapes"])
  row(f"feed unpacked, {shapes}", f"{alone['rate']:,.0f} examples/s, {fills(alone)}")
  start = apart("start", mixture, LONGEST)
  row("first batch at step 0", f"{start['near']:.2f} s")
  row(f"first batch at step {FAR_STEP:,}", f"{start['far']:.2f} s", "1 s more")
  many = apart("many", make_up(mixture, scratch / "many"))
  title = f"{TASKS} tasks of {ROWS:,} rows"
  row(f"{title}: first batch, imports included", f"{many['start']:.1f} s", "15 s")
  row(f"{title}: peak memory", f"{many['memory']:.2f} GiB", "1.5 GiB")
  row(f"{title}: feed", f"{many['rate']:,.0f} examples/s, {fills(many)}")
  told = f"{many['off']:.1f} draws, {many['errors']:.2f} standard errors of sampling"
  row(f"{title}: furthest from its rate in {DRAWS:,} draws", told, "sampling error")
  return table


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--data_dir", type=pathlib.Path)
  parser.add_argument("--vocabulary", type=pathlib.Path)
  parser.add_argument("--scratch", type=pathlib.Path, help="where stores are written")
  parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
  flags = parser.parse_args()
  if flags.measure:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    name, arguments = flags.measure
    print(json.dumps(MEASURES[name](*json.loads(arguments))))
    return
  if flags.data_dir is None or flags.vocabulary is None:
    parser.error("--data_dir and --vocabulary are required")
  with tempfile.TemporaryDirectory(dir=flags.scratch) as scratch:
    Console(width=120).print(measure_all(flags, pathlib.Path(scratch)))


if __name__ == "__main__":
  main()

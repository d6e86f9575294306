#!/usr/bin/env python
"""Measures decoding beside Hugging Face's `generate`, on random weights and tokens.

    pip install torch transformers      # for the other side; without them ours alone
    python scripts/benchmark_decoding.py
    python scripts/benchmark_decoding.py --beams=4 --rounds=10

FLAN-T5 small's shape, float32, batch 8, 256 input tokens, at most 64 new ones: once with
every row to the full length, once with rows that end at lengths of their own. Both sides
have the same weights, run in turn, each in a process of its own, and must give the same
tokens; prints seconds a batch, medians with their spread, and the median of the ratios.
"""

import argparse
import dataclasses
import importlib.util
import multiprocessing
import pathlib
import statistics
import sys
import tempfile
import time

import jax
import numpy as np

from t5tune import config, partitioning
from t5tune.evaluation import programs
from t5tune.models import beam_search, decoding, logit_rules, t5
from t5tune.training.train_state import Model
from t5tune.weights import conversion, names, pretrained, weights, workdirs

BATCH, INPUTS, NEW = 8, 256, 64
# Scales the logit of the end of sequence, so that rows end at many lengths.
ENDS = 2.5
# Seconds before each measurement: threads of the other side may wait busily a while.
PAUSE = 0.3


class Ours:
  """t5tune's greedy decoding or beam search, compiled."""

  name = "t5tune"

  def __init__(self, workdir: pathlib.Path):
    source = pretrained.open_weights(str(workdir))
    self._model = Model(dataclasses.replace(source.config, dropout_rate=0.0))
    self._mesh = partitioning.make_mesh({}, jax.devices()[:1])
    self._params = pretrained.params(source, self._model, self._mesh)
    self._encode = programs.jit_encode(self._model)
    self._programs = {}

  def __call__(self, tokens: np.ndarray, beams: int, least: int) -> np.ndarray:
    how = (beams, least)
    if how not in self._programs:
      search = beam_search.BeamConfig(beams, 1.0, "hf")
      rules = logit_rules.LogitRules(least)
      wanted = programs.DecodeConfig(NEW, search, rules=rules)
      self._programs[how] = programs.jit_decode(self._model, self._mesh, wanted)
    segment_ids = np.ones_like(tokens)
    with jax.set_mesh(self._mesh):
      encoded = self._encode(self._params, tokens, segment_ids)
      ids, _ = self._programs[how](self._params, encoded, segment_ids)
    return np.asarray(ids)[:, 0]


class HuggingFace:
  """transformers' `generate`."""

  name = "Hugging Face"

  def __init__(self, workdir: pathlib.Path):
    import torch
    import transformers

    folder = workdir.with_name("hf")
    size = lambda path: 0  # noqa: E731  there is no vocabulary
    conversion.convert(str(workdir), folder, "hf", "float32", 10**10, None, size)
    self._torch = torch
    self._model = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()

  def __call__(self, tokens: np.ndarray, beams: int, least: int) -> np.ndarray:
    with self._torch.inference_mode():
      ids = self._model.generate(
        input_ids=self._torch.tensor(tokens).long(),
        attention_mask=self._torch.ones(tokens.shape, dtype=self._torch.long),
        max_new_tokens=NEW,
        min_new_tokens=least,
        num_beams=beams,
        do_sample=False,
        length_penalty=1.0,
      )
    made = ids.numpy()[:, 1:]
    return np.pad(made, ((0, 0), (0, NEW - made.shape[1])))


class Worker:
  """A side in a process of its own, where the other's libraries and threads are not."""

  def __init__(self, side: type, workdir: pathlib.Path):
    self.name = side.name
    context = multiprocessing.get_context("spawn")
    self._pipe, end = context.Pipe()
    context.Process(target=_serve, args=(side, workdir, end), daemon=True).start()
    self._pipe.recv()  # it is ready

  def __call__(self, *request) -> tuple[np.ndarray, float]:
    """Returns a side's answer, and the seconds it took."""
    self._pipe.send(request)
    return self._pipe.recv()


def _serve(side: type, workdir: pathlib.Path, pipe) -> None:
  decode = side(workdir)
  pipe.send("ready")
  while True:
    try:
      request = pipe.recv()
    except EOFError:  # all is measured
      return
    time.sleep(PAUSE)
    began = time.perf_counter()
    made = decode(*request)
    pipe.send((made, time.perf_counter() - began))


def write_weights(folder: pathlib.Path) -> pathlib.Path:
  """Writes a work directory with random weights of FLAN-T5 small's shape."""
  shape = config.load(["models/flan_t5_small.gin"], []).build(t5.T5Config)
  shape = t5.pad_vocab_size(shape, 32_100)
  rng = np.random.default_rng(0)

  def draw(name: str, size) -> np.ndarray:
    if name.endswith("scale"):
      return np.ones(size, np.float32)
    # As T5 is initialised, or rounding would choose the tokens.
    scale = 1.0 if "embed" in name else size[0] ** -0.5
    scale *= shape.head_dim**-0.5 if name.endswith("query/kernel") else 1.0
    drawn = rng.normal(size=size, scale=scale).astype(np.float32)
    if name.endswith("logits_dense/kernel"):
      drawn[:, decoding.EOS_ID] *= ENDS
    return drawn

  made = {name: draw(name, size) for name, size in names.shapes(shape).items()}
  shapes = {name: value.shape for name, value in made.items()}
  source = weights.Weights("random", shape, shapes, made.__getitem__)
  workdirs.write(source, folder, lambda done, total: None)
  return folder


def measure(sides, tokens: np.ndarray, beams: int, least: int, rounds: int) -> None:
  """Runs all sides in turn, and prints what they took."""
  outputs = [side(tokens, beams, least)[0] for side in sides]  # compiles
  lengths = [_length(row) for row in outputs[0]]
  kind = "greedy" if beams == 1 else f"beam-{beams}"
  print(f"{kind}, answers of {min(lengths)} to {max(lengths)} tokens", flush=True)
  if len(sides) > 1:
    same = np.mean([_text(a) == _text(b) for a, b in zip(*outputs, strict=True)])
    print(f"  the same tokens in {same:.0%} of the rows")
  seconds = [[] for _ in sides]
  for _ in range(rounds):
    for side, taken in zip(sides, seconds, strict=True):
      taken.append(side(tokens, beams, least)[1])
  for side, taken in zip(sides, seconds, strict=True):
    middle, low, high = statistics.median(taken), min(taken), max(taken)
    print(f"  {side.name:>12}  {middle:.3f} s  ({low:.3f} to {high:.3f})")
  if len(sides) > 1:
    ratios = [b / a for a, b in zip(*seconds, strict=True)]
    middle = statistics.median(ratios)
    print(f"  {middle:.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})")


def _length(row: np.ndarray) -> int:
  ends = np.flatnonzero(row == decoding.EOS_ID)
  return int(ends[0]) + 1 if len(ends) else len(row)


def _text(row: np.ndarray) -> list[int]:
  return row[: _length(row)].tolist()


def main() -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--beams", type=int, action="append", help="default: 1 and 4")
  parser.add_argument("--rounds", type=int, default=5)
  flags = parser.parse_args()
  with tempfile.TemporaryDirectory() as scratch:
    workdir = write_weights(pathlib.Path(scratch) / "random")
    sides = [Worker(Ours, workdir)]
    if all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
      sides.append(Worker(HuggingFace, workdir))
    else:
      print("no torch and transformers: Hugging Face is left out", file=sys.stderr)
    rng = np.random.default_rng(1)
    tokens = rng.integers(2, 32_000, (BATCH, INPUTS)).astype(np.int32)
    tokens[:, -1] = decoding.EOS_ID
    for beams in flags.beams or (1, 4):
      for least in (NEW, 0):
        measure(sides, tokens, beams, least, flags.rounds)
  return 0


if __name__ == "__main__":
  sys.exit(main())

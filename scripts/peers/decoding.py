"""Decoding of both sides, on random weights and tokens.

FLAN-T5 small's shape, float32, batch 8, 256 input tokens, at most 64 new ones: once with
every row to the full length, once with rows that end at lengths of their own.
"""

import dataclasses
import pathlib
import tempfile

import jax
import numpy as np

from peers import rounds
from t5tune import accelerators, command_line, config, partitioning
from t5tune.evaluation import programs
from t5tune.models import beam_search, decoding, logit_rules, t5
from t5tune.training.train_state import Model
from t5tune.weights import conversion, names, pretrained, weights, workdirs

BATCH, INPUTS, NEW = 8, 256, 64
# Scales the logit of the end of sequence, so that rows end at many lengths.
ENDS = 2.5


class Ours:
  """t5tune's greedy decoding or beam search, compiled."""

  name = "t5tune"

  def __init__(self, workdir: pathlib.Path):
    accelerators.set_defaults(command_line.default_store_dir())  # as `infer` does
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
    self._device = "cuda" if torch.cuda.is_available() else "cpu"
    model = transformers.T5ForConditionalGeneration.from_pretrained(folder)
    self._model = model.eval().to(self._device)

  def __call__(self, tokens: np.ndarray, beams: int, least: int) -> np.ndarray:
    with self._torch.inference_mode():
      ids = self._model.generate(
        input_ids=self._torch.tensor(tokens, device=self._device).long(),
        attention_mask=self._torch.ones(
          tokens.shape, dtype=self._torch.long, device=self._device
        ),
        max_new_tokens=NEW,
        min_new_tokens=least,
        num_beams=beams,
        do_sample=False,
        length_penalty=1.0,
      )
    made = ids.cpu().numpy()[:, 1:]
    return np.pad(made, ((0, 0), (0, NEW - made.shape[1])))


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


def compare(beams: int, count: int, other: bool) -> list[rounds.Comparison]:
  """Compares decoding of answers of one length, and of many.

  Args:
    beams: 1 for greedy.
    count: rounds.
    other: whether Hugging Face can run.
  """
  made = []
  with tempfile.TemporaryDirectory() as scratch:
    workdir = write_weights(pathlib.Path(scratch) / "random")
    sides = [rounds.Worker("t5tune", True, Ours, workdir)]
    if other:
      sides.append(rounds.Worker("Hugging Face", False, HuggingFace, workdir))
    rng = np.random.default_rng(1)
    tokens = rng.integers(2, 32_000, (BATCH, INPUTS)).astype(np.int32)
    tokens[:, -1] = decoding.EOS_ID
    for least in (NEW, 0):
      request = tokens, beams, least
      outputs = [side(*request)[0] for side in sides]  # compiles
      title, answered = _title(beams, outputs)
      total = tokens.size, answered
      made.append(rounds.compare(title, sides, count, total, request))
    for side in sides:
      side.close()
  return made


def _title(beams: int, outputs: list[np.ndarray]) -> tuple[str, int]:
  """Returns what was decoded, in words, and the tokens of our answers."""
  lengths = [_length(row) for row in outputs[0]]
  kind = "Greedy" if beams == 1 else f"{beams} beams"
  title = f"{kind}, answers of {min(lengths)} to {max(lengths)} tokens"
  if len(outputs) > 1:
    same = np.mean([_text(a) == _text(b) for a, b in zip(*outputs, strict=True)])
    title += f", the same in {same:.0%} of the rows"
  return title, sum(lengths)


def _length(row: np.ndarray) -> int:
  ends = np.flatnonzero(row == decoding.EOS_ID)
  return int(ends[0]) + 1 if len(ends) else len(row)


def _text(row: np.ndarray) -> list[int]:
  return row[: _length(row)].tolist()

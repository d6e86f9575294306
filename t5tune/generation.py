"""Answers to prompts: what `infer` and `t5tune.load` are made of.

prompts → tokens → batches of like length → decoding → answers, in their order
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from t5tune import errors, partitioning
from t5tune.data import packing, vocabularies
from t5tune.evaluation import programs
from t5tune.models import beam_search, decoding, logit_rules, sampling
from t5tune.training.train_state import Model
from t5tune.weights import pretrained, workdirs

INPUT_LENGTH = 512  # where a checkpoint does not say what it was trained with
MOST_TOKENS = 2**14  # of an answer: beyond it, position biases alone take gigabytes


@dataclasses.dataclass(frozen=True)
class Candidate:
  """One answer to a prompt.

  Attributes:
    text: the answer.
    score: of beam search its score, of sampling its log-probability; None of greedy
      decoding.
    cut: whether it met the length limit before it ended.
  """

  text: str
  score: float | None
  cut: bool


@dataclasses.dataclass(frozen=True)
class Answer:
  """What a model answered to a prompt.

  Attributes:
    candidates: the answers, best first; at least one.
    prompt_cut: tokens of the prompt that its length limit took away.
  """

  candidates: tuple[Candidate, ...]
  prompt_cut: int

  @property
  def text(self) -> str:
    return self.candidates[0].text


class Generator:
  """A model with its weights, on all devices of this process.

  Attributes:
    origin: where its weights came from, a checkpoint's step included.
    dtype: computation dtype.
    tokenizer: its vocabulary.
    input_length: most tokens of a prompt, the end of sequence included.
    target_length: most tokens decoded where a call does not say; None where the
      checkpoint does not tell, and every call must.
  """

  def __init__(
    self,
    model: Model,
    params: Any,
    mesh: Any,
    tokenizer: vocabularies.Tokenizer,
    input_length: int,
    target_length: int | None,
    origin: str,
  ):
    self.origin, self.dtype = origin, model.config.dtype
    self.tokenizer = tokenizer
    self.input_length, self.target_length = input_length, target_length
    self._model, self._params, self._mesh = model, params, mesh
    self._encode = programs.jit_encode(model)
    self._programs: dict[programs.DecodeConfig, Any] = {}

  def generate(self, prompts: Sequence[str], **settings) -> list[str]:
    """Returns the best answer to each prompt.

    Args:
      prompts: the texts, as the model was trained to get them.
      **settings: see `decode_config`; `seed` and `batch_size` as for `answers`.

    Raises:
      UserError: a setting cannot be, or a prompt is empty.
    """
    if "n_best" in settings:
      raise errors.UserError("generate gives one answer a prompt; `answers` gives all.")
    rest = {k: settings.pop(k) for k in ("seed", "batch_size") if k in settings}
    config = decode_config(self.target_length, **settings)
    return [answer.text for answer in self.answers(prompts, config, **rest)]

  def answers(
    self,
    prompts: Sequence[str],
    config: programs.DecodeConfig,
    *,
    seed: int = 0,
    first_row: int = 0,
    batch_size: int = 32,
    escape: bool = False,
    progress: Callable[[int], None] = lambda done: None,
  ) -> list[Answer]:
    """Returns what the model answers to each prompt, in their order.

    An answer depends on its prompt and, where it is drawn, on the seed and its row; how
    prompts are grouped makes no difference but for rounding.

    Args:
      prompts: the texts.
      config: how to decode.
      seed: of what is drawn.
      first_row: the row of the first prompt, of a longer list.
      batch_size: prompts decoded together.
      escape: whether the model was trained on escaped text (`data/escape.py`).
      progress: told of the number of prompts done.

    Raises:
      UserError: a prompt is empty.
    """
    _check(prompts, first_row, seed, batch_size)
    tokens = [self.tokenizer.encode(prompt, escape) for prompt in prompts]
    limit = self.input_length - 1
    inputs = [np.array([*t[:limit], decoding.EOS_ID], np.int32) for t in tokens]
    shards = partitioning.batch_shards(self._mesh)
    batch_size = -(-batch_size // shards) * shards
    found: list[Answer | None] = [None] * len(prompts)
    done = 0
    for members in _groups(inputs, batch_size):
      rows = [first_row + i for i in members]
      ids, scores = self._decode(
        config, [inputs[i] for i in members], rows, seed, batch_size
      )
      for i, row_ids, row_scores in zip(members, ids, scores, strict=False):
        candidates = self._candidates(config, row_ids, row_scores, escape)
        found[i] = Answer(candidates, max(0, len(tokens[i]) - limit))
      done += len(members)
      progress(done)
    return found

  def _decode(self, config, inputs, rows, seed: int, batch_size: int):
    length = programs.bucket(max(map(len, inputs)), self.input_length)
    empty = np.zeros(0, np.int32)
    padding = [empty] * (batch_size - len(inputs))
    examples = [[(tokens, empty)] for tokens in (*inputs, *padding)]
    batch = packing.to_batch(examples, (length, 1))
    batch = partitioning.put_batch(self._mesh, batch, np.arange(batch_size), batch_size)
    if config not in self._programs:
      self._programs[config] = programs.jit_decode(self._model, self._mesh, config)
    keys = None
    if config.draw:
      of_row = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(seed), row))
      keys = of_row(np.array([*rows, *[0] * len(padding)], np.uint32))
    tokens, segment_ids = batch["encoder_input_tokens"], batch["encoder_segment_ids"]
    with jax.set_mesh(self._mesh):
      encoded = self._encode(self._params, tokens, segment_ids)
      made = self._programs[config](self._params, encoded, segment_ids, keys)
    return jax.device_get(made)

  def _candidates(self, config, ids, scores, escape) -> tuple[Candidate, ...]:
    has_score = config.draw is not None or config.beam.num_beams > 1
    return tuple(
      Candidate(
        self.tokenizer.decode(tokens, escape),
        float(score) if has_score else None,
        decoding.EOS_ID not in tokens,
      )
      for tokens, score in zip(ids, scores, strict=True)
      if score > -np.inf  # a slot without a sequence
    )


def _check(prompts, first_row: int, seed: int, batch_size: int) -> None:
  if isinstance(prompts, str) or not isinstance(prompts, Sequence):
    raise errors.UserError("prompts must be a list of texts, such as ['...'].")
  if type(batch_size) is not int or batch_size < 1:
    raise errors.UserError(f"batch_size = {batch_size!r}: it must be at least 1.")
  if type(seed) is not int or not 0 <= seed < 2**32:
    raise errors.UserError(f"seed = {seed!r}: it must be from 0 to 2**32 - 1.")
  for number, prompt in enumerate(prompts, start=first_row + 1):
    if not isinstance(prompt, str):
      raise errors.UserError(f"prompt {number} is no text but {prompt!r}.")
    if not prompt.strip():
      raise errors.UserError(f"prompt {number} is empty.")
    try:
      prompt.encode()
    except UnicodeEncodeError as e:
      raise errors.UserError(
        f"prompt {number} holds half a character (a lone surrogate)."
      ) from e


def _groups(inputs: Sequence[np.ndarray], size: int) -> Iterator[list[int]]:
  """Yields which inputs are decoded together: those of like length."""
  order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]))
  for start in range(0, len(order), size):
    yield order[start : start + size]


def decode_config(
  target_length: int | None,
  *,
  max_length: int | None = None,
  num_beams: int = 1,
  length_penalty: float = 0.6,
  early_stopping: bool = False,
  beam_rules: str = "t5x",
  temperature: float | None = None,
  top_k: int = 0,
  top_p: float = 1.0,
  n_best: int = 1,
  min_length: int = 0,
  no_repeat_ngram: int = 0,
) -> programs.DecodeConfig:
  """Returns how to decode, from settings as users give them.

  Args:
    target_length: what `max_length` is where it is not given.
    max_length: most tokens decoded, the end of sequence included.
    num_beams: beams of a search; 1 is greedy.
    length_penalty: of a search; see `beam_search.BeamConfig`.
    early_stopping: likewise.
    beam_rules: likewise, 't5x' or 'hf'.
    temperature: draws tokens at this temperature; as do `top_k` and `top_p`, at 1.
    top_k: draws among the k likeliest; 0 for all.
    top_p: draws among the likeliest of together this probability.
    n_best: answers for each prompt: beams, or samples. By the rules 't5x' there may be
      fewer: beams that have not ended count only where none has.
    min_length: tokens before which an answer may not end.
    no_repeat_ngram: n, where no n tokens in a row may come twice.

  Raises:
    UserError: a setting cannot be, or goes with another.
  """
  length = max_length if max_length is not None else target_length
  if length is None:
    raise errors.UserError(
      "max_length is missing: this checkpoint does not say how long its answers may be."
      " Give the most tokens to decode, such as 128."
    )
  if type(length) is not int or not 0 < length <= MOST_TOKENS:
    raise errors.UserError(
      f"max_length = {length!r}: it must be an integer from 1 to {MOST_TOKENS:,}."
    )
  numbers = {"length_penalty": length_penalty, "top_p": top_p}
  numbers |= {} if temperature is None else {"temperature": temperature}
  for name, value in numbers.items():
    if isinstance(value, bool) or not isinstance(value, int | float):
      raise errors.UserError(f"{name} = {value!r}: it must be a number.")
  if type(n_best) is not int:
    raise errors.UserError(f"n_best = {n_best!r}: it must be an integer.")
  if min_length >= length:
    raise errors.UserError(
      f"min_length = {min_length} leaves no room for the end within max_length ="
      f" {length}."
    )
  if n_best < 1:
    raise errors.UserError(f"n_best = {n_best}: it must be at least 1.")
  with _as_given():
    beam = beam_search.BeamConfig(num_beams, length_penalty, beam_rules, early_stopping)
  draws = temperature is not None or top_k or top_p != 1.0
  if n_best > num_beams and not draws:
    raise errors.UserError(
      f"n_best = {n_best} needs as many beams, or sampling: set num_beams = {n_best} or"
      " temperature = 1.0."
    )
  drawn = None
  if draws:
    warmth = 1.0 if temperature is None else temperature
    with _as_given():
      drawn = sampling.SamplingConfig(warmth, top_k, top_p, n_best)
  with _as_given():
    rules = logit_rules.LogitRules(min_length, no_repeat_ngram)
  return programs.DecodeConfig(length, beam, drawn, rules)


@contextlib.contextmanager
def _as_given() -> Iterator[None]:
  """Names a setting that cannot be as `decode_config` does, not as gin does."""
  try:
    yield
  except errors.UserError as e:
    text = str(e).replace("beam_search.BeamConfig.rules", "beam_rules")
    text = re.sub(r"\b(beam_search|sampling|logit_rules)\.[A-Z]\w+\.", "", text)
    raise errors.UserError(text) from e


def load(
  path: str | os.PathLike,
  *,
  vocabulary: str | os.PathLike | None = None,
  dtype: str = "float32",
  input_length: int | None = None,
  mesh: dict[str, int] | None = None,
) -> Generator:
  """Loads a model to generate with.

  Args:
    path: a work directory, which means its latest checkpoint, or one of its
      `checkpoints/<step>`; a Hugging Face id or directory; a T5X checkpoint; an adapter
      of PEFT.
    vocabulary: a SentencePiece model; None for the one beside the weights.
    dtype: computation dtype, 'float32' or 'bfloat16'.
    input_length: most tokens of a prompt; None for what it was trained with, or 512
      where the checkpoint does not say.
    mesh: devices along 'data', 'fsdp' and 'tensor'; None for all along 'data'.

  Raises:
    UserError: the weights or the vocabulary cannot be found, or do not fit.
  """
  name = os.fspath(path)
  if name == pretrained.SCRATCH:
    raise errors.UserError(
      "'scratch' has no weights to generate with; name a checkpoint."
    )
  source = pretrained.open_weights(name, "The checkpoint")
  config = dataclasses.replace(source.config, dtype=dtype, dropout_rate=0.0)
  kept = vocabulary or source.vocabulary
  if kept is None:
    kept = pretrained.vocabulary_path(name, "checkpoint", "--vocabulary")
  tokenizer = vocabularies.Tokenizer(vocabularies.resolve(kept))
  if tokenizer.size > config.vocab_size:
    raise errors.UserError(
      f"{tokenizer.path} has {tokenizer.size:,} ids, more than the {config.vocab_size:,}"
      f" of {source.origin}: it is not its vocabulary."
    )
  if input_length is not None and input_length < 2:
    raise errors.UserError(
      f"input_length = {input_length}: a prompt needs at least 2 tokens."
    )
  lengths = _trained_lengths(pathlib.Path(name).expanduser())
  model = Model(config)
  devices = partitioning.make_mesh(mesh or {"data": -1})
  return Generator(
    model,
    pretrained.params(source, model, devices),
    devices,
    tokenizer,
    input_length or lengths[0] or INPUT_LENGTH,
    lengths[1],
    source.origin,
  )


def _trained_lengths(path: pathlib.Path) -> tuple[int | None, int | None]:
  """Returns INPUT_LENGTH and TARGET_LENGTH of the run in a work directory."""
  if not workdirs.is_workdir(path):
    return None, None
  recorded = json.loads((workdirs.root(path) / "run.json").read_text())
  return recorded.get("INPUT_LENGTH"), recorded.get("TARGET_LENGTH")

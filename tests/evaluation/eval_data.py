"""What an evaluator needs, made up: a model, evaluation stores and a scorer."""

import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from t5tune import partitioning
from t5tune.data import index, token_store, vocabularies
from t5tune.evaluation import evaluator, programs
from t5tune.models import t5
from t5tune.training import train_state

TEXTS = [
  ("Ana rows the boat to Bo", "Ana rows"),
  ("Bo", "Bo reads"),
  ("The ferry leaves at noon", "noon"),
  ("Cas has the ladder of Bo and Dee will paint the shed", "a ladder"),
  ("Dee plays chess", "chess on Sunday"),
  ("It is at six", "six"),
  ("Call Dee , she fixed the oven last time", "Dee"),
]


class Scorer:
  """As `scoring.Scorer`: references in upper case, and the share of equal letters."""

  def begin(self) -> None:
    pass

  def references(self, task: str, rows: Sequence[dict]) -> list[str]:
    return [row["targets_pretokenized"].upper() for row in rows]

  def score(self, task, rows, references, predictions) -> dict[str, float]:
    assert len(rows) == len(references) == len(predictions)
    pairs = zip(references, predictions, strict=True)
    overlaps = [len(set(r) & set(p.upper())) / len(set(r)) for r, p in pairs]
    return {"overlap": 100 * float(np.mean(overlaps)), "rows": float(len(rows))}


def write(path: pathlib.Path, texts, tokenizer: vocabularies.Tokenizer) -> str:
  """Writes an evaluation store of (input, target) texts."""
  with token_store.writing(path, keep_rows=True) as writer:
    for i, (inputs, targets) in enumerate(texts):
      row = {"number": i, "template": "t"}
      row |= {"inputs_pretokenized": inputs, "targets_pretokenized": targets}
      ids = [np.array([*tokenizer.encode(t), 1], np.int32) for t in (inputs, targets)]
      writer.append(*ids, row, i)
  return str(path)


def mixture(folder: pathlib.Path, tokenizer) -> index.PreparedMixture:
  """Returns two tasks: `first` with all splits, `second` with validation alone."""
  stores = {
    name: write(folder / name, texts, tokenizer)
    for name, texts in {
      "train": TEXTS[::-1],
      "validation": TEXTS[2:5],
      "test": TEXTS,
      "second": TEXTS[:2],
    }.items()
  }
  splits = {name: stores[name] for name in ("validation", "test")}
  return index.PreparedMixture(
    "both",
    (
      index.PreparedTask("first", 1.0, (stores["train"],), splits),
      index.PreparedTask("second", 1.0, (), {"validation": stores["second"]}),
    ),
    "fingerprint",
  )


def model(vocab_size: int) -> train_state.Model:
  """Returns a model of one layer a side."""
  sizes = {"emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 16}
  return train_state.Model(
    t5.T5Config(
      **sizes, num_encoder_layers=1, num_decoder_layers=1, vocab_size=vocab_size
    )
  )


class Setup:
  """A model with random parameters on one device, and evaluators of it."""

  def __init__(self, folder: pathlib.Path, vocabulary: pathlib.Path):
    self.tokenizer = vocabularies.Tokenizer(vocabulary)
    self.mixture = mixture(folder, self.tokenizer)
    self.model = model(self.tokenizer.size)
    # Far from zero, so that the inputs matter and answers differ.
    large = lambda key: jax.tree.map(lambda x: 3 * x, self.model.init(key))  # noqa: E731
    self.params = jax.jit(large)(jax.random.key(0))
    self.mesh = partitioning.make_mesh({}, jax.devices()[:1])

  def evaluator(self, batch_size=4, input_length=64, target_length=8):
    config = programs.EvalConfig(batch_size, input_length, target_length)
    return evaluator.Evaluator(
      self.model, self.mesh, config, self.mixture, self.tokenizer, Scorer()
    )

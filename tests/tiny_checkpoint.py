"""A tiny random model on disk, as a work directory and as Hugging Face has it."""

import dataclasses
import json
import pathlib

from t5tune.data import vocabularies
from t5tune.weights import conversion, workdirs
from tests.weights import tiny_weights

VOCABULARY = vocabularies.resolve("demo.model")


def write(folder: pathlib.Path) -> pathlib.Path:
  """Writes a work directory whose run had inputs of 48 and targets of 12 tokens."""
  config = dataclasses.replace(tiny_weights.FLAN, vocab_size=2176)
  made = tiny_weights.tensors(config)
  made["decoder/logits_dense/kernel"][:, 1] *= 3  # some answers end
  source = tiny_weights.in_memory(config, made)
  source = dataclasses.replace(source, vocabulary=VOCABULARY)
  workdirs.write(source, folder, lambda done, total: None)
  recorded = json.loads((folder / "run.json").read_text())
  recorded |= {"INPUT_LENGTH": 48, "TARGET_LENGTH": 12}
  (folder / "run.json").write_text(json.dumps(recorded))
  return folder


def to_hugging_face(workdir: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
  """Converts a work directory."""
  size = lambda path: vocabularies.Tokenizer(path).size  # noqa: E731
  rest = ("float32", 10**9, str(VOCABULARY), size)
  conversion.convert(str(workdir), folder, "hf", *rest)
  return folder

"""Trains a SentencePiece vocabulary of T5's form on a mixture's text.

    python scripts/train_vocabulary.py --mixture=multitask \
        --task_modules=t5tune.tasks.mixtures --data_dir=DIR --size=8000 \
        --output=DIR/multitask.model

The text is that of the training rows, inputs and targets, templates filled in. Text,
size and options alone decide the file. The 100 sentinels are not in it: the loader
adds them (`t5tune.data.vocabularies`).
"""

import argparse
import dataclasses
import glob
import io
import os
import pathlib
import re
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import sentencepiece

from t5tune import command_line
from t5tune.data import definitions, escape, vocabularies
from t5tune.errors import UserError

EXAMPLES = """examples:
  python scripts/train_vocabulary.py --mixture=demo --task_modules=t5tune.tasks.demo \\
      --size=2000 --output=demo.model
  python scripts/train_vocabulary.py --mixture=multitask --data_dir=DIR --size=16000 \\
      --output=DIR/multitask.model
  python scripts/train_vocabulary.py --text='notes/**/*.txt' --size=4000 \\
      --output=notes.model
"""
# SentencePiece leaves out lines of more than 4,192 bytes, so longer ones are wrapped.
_LINE_LENGTH = 1000
# Sums of floats, and with them the pieces, follow from how threads share the text.
_THREADS = 2
_TOO_LARGE = re.compile(r"Vocabulary size too high.*<= (\d+)", re.DOTALL)
_TOO_SMALL = re.compile(r"smaller than required_chars\D*(\d+) vs (\d+)", re.DOTALL)


def main(arguments: Sequence[str]) -> int:
  """Trains the vocabulary that the flags describe; returns the exit status."""
  flags = _parse(arguments)
  texts: list[str] = []
  if flags.mixture:
    modules = flags.task_modules.split(",")
    definitions.load_tasks(modules, flags.data_dir)
    for task, _ in definitions.get_tasks(flags.mixture):
      texts += task_texts(task, flags.rows_per_task)
  for pattern in flags.text:
    texts += file_texts(pattern)
  model = train(texts, flags.size, flags.character_coverage, flags.max_piece_length)
  write(flags.output, model)
  print(f"{flags.output}: {summarize(flags.output, texts)}")
  return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
  parser = command_line.CommandParser(
    prog="python scripts/train_vocabulary.py",
    description="Trains a SentencePiece vocabulary of T5's form on a mixture's text.",
    epilog=EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  add = parser.add_argument
  add("--mixture", metavar="NAME", help="mixture or task whose training rows to read")
  add(
    "--task_modules",
    metavar="MODULES",
    default="t5tune.tasks.mixtures",
    help="modules that register the tasks, with commas between (default: %(default)s)",
  )
  add(
    "--data_dir",
    type=lambda text: pathlib.Path(text).expanduser(),
    metavar="DIR",
    help="folder with the raw data sets; it is only read",
  )
  add(
    "--text",
    action="append",
    default=[],
    metavar="GLOB",
    help="UTF-8 text files to read as well; may be given several times",
  )
  add(
    "--size",
    type=int,
    required=True,
    metavar="N",
    help="number of pieces, padding, end and unknown among them",
  )
  add(
    "--output",
    type=lambda text: pathlib.Path(text).expanduser(),
    required=True,
    metavar="FILE.model",
    help="file to write; one that is there is replaced",
  )
  add(
    "--character_coverage",
    type=float,
    default=0.9999,
    metavar="SHARE",
    help="part of all characters that must have a piece (default: %(default)s)",
  )
  add(
    "--max_piece_length",
    type=int,
    default=16,
    metavar="N",
    help="longest piece, in characters (default: %(default)s)",
  )
  add(
    "--rows_per_task",
    type=int,
    default=20_000,
    metavar="N",
    help="rows read of each task at most, the first ones (default: %(default)s)",
  )
  flags = parser.parse_args(arguments)
  if not flags.mixture and not flags.text:
    raise UserError("There is no text to learn from: give --mixture, --text or both.")
  if flags.output.suffix != ".model" or not flags.output.parent.is_dir():
    raise UserError(
      f"--output={flags.output}: give a name that ends in .model, in a folder that"
      " exists."
    )
  for name, least in (("size", 4), ("max_piece_length", 1), ("rows_per_task", 1)):
    if getattr(flags, name) < least:
      raise UserError(f"--{name}={getattr(flags, name)}: give at least {least}.")
  if not 0 < flags.character_coverage <= 1:
    raise UserError(
      f"--character_coverage={flags.character_coverage}: give a share above 0 and at"
      " most 1."
    )
  return flags


def task_texts(task, limit: int) -> Iterator[str]:
  """Yields the inputs and targets of a task's training rows, as text.

  Args:
    task: a `seqio.Task` whose preprocessors end with SeqIO's `tokenize`.
    limit: number of rows at most.

  Yields:
    Two texts a row; templates are those of pass 0 and seed 0.

  Raises:
    UserError: the task has no training rows, or tokens but no text.
  """
  import seqio

  if "train" not in task.splits:
    raise UserError(
      f"task {task.name!r} has no split 'train', only {', '.join(task.splits)}: leave"
      " it out of the mixture that the vocabulary learns from."
    )
  # Any vocabulary does: `tokenize` keeps the text beside the tokens.
  features = {
    name: dataclasses.replace(feature, vocabulary=seqio.ByteVocabulary())
    for name, feature in task.output_features.items()
  }
  dataset = task.replace(output_features=features).get_dataset(
    sequence_length=None, split="train", shuffle=False
  )
  names = [f"{name}_pretokenized" for name in ("inputs", "targets")]
  if missing := [name for name in names if name not in dataset.element_spec]:
    raise UserError(
      f"task {task.name!r} yields no {missing[0]!r}: put"
      " seqio.preprocessors.tokenize among its preprocessors."
    )
  for row in dataset.take(limit).as_numpy_iterator():
    yield from (row[name].decode() for name in names)


def file_texts(pattern: str) -> Iterator[str]:
  """Yields the text of each file that a glob pattern matches, in order of names.

  Args:
    pattern: as for `glob`; `**` matches any folders.

  Yields:
    Texts.

  Raises:
    UserError: no file matches, or one is not UTF-8.
  """
  paths = sorted(map(pathlib.Path, glob.glob(pattern, recursive=True)))
  paths = [path for path in paths if path.is_file()]
  if not paths:
    raise UserError(f"--text={pattern} matches no file.")
  for path in paths:
    try:
      yield path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
      raise UserError(f"--text: {path} cannot be read as UTF-8: {error}.") from error


def train(
  texts: Iterable[str],
  size: int,
  character_coverage: float = 0.9999,
  max_piece_length: int = 16,
) -> bytes:
  """Trains a unigram vocabulary (Kudo 2018, https://arxiv.org/abs/1804.10959).

  T5's form: padding 0, end 1, unknown 2, no beginning, nmt_nfkc normalisation.
  Unlike T5's, digits are pieces of their own, as numbers are to be copied.

  Args:
    texts: what to learn from.
    size: number of pieces.
    character_coverage: part of all characters that must have a piece.
    max_piece_length: longest piece, in characters.

  Returns:
    The serialized model.

  Raises:
    UserError: the size does not fit the text.
  """
  model = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=_lines(texts),
      model_writer=model,
      model_type="unigram",
      vocab_size=size,
      pad_id=vocabularies.PAD_ID,
      eos_id=vocabularies.EOS_ID,
      unk_id=vocabularies.UNK_ID,
      bos_id=-1,
      normalization_rule_name="nmt_nfkc",
      character_coverage=character_coverage,
      required_chars=escape.NEEDED,
      max_sentencepiece_length=max_piece_length,
      split_digits=True,
      num_threads=_THREADS,
      minloglevel=2,
    )
  except (RuntimeError, OSError) as error:
    message = str(error).strip()
    if found := _TOO_LARGE.search(message):
      reason = f"the text gives at most {found[1]} pieces. Give --size={found[1]} or"
      fix = "less, or more text."
    elif found := _TOO_SMALL.search(message):
      reason = f"the text's characters alone need {found[2]} pieces. Give more, or a"
      fix = "lower --character_coverage."
    else:
      reason, fix = "SentencePiece says:", message
    raise UserError(f"--size={size}: {reason} {fix}") from error
  return model.getvalue()


def _lines(texts: Iterable[str]) -> Iterator[str]:
  for text in texts:
    for line in text.splitlines():
      yield from (
        textwrap.wrap(line, _LINE_LENGTH) if len(line) > _LINE_LENGTH else [line]
      )


def write(path: pathlib.Path, model: bytes) -> None:
  """Writes a file so that it is complete or not there at all."""
  partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
  try:
    partial.write_bytes(model)
    partial.replace(path)
  finally:
    partial.unlink(missing_ok=True)


def summarize(path: pathlib.Path, texts: Sequence[str]) -> str:
  """Returns a sentence on how a vocabulary fits its text.

  Args:
    path: the vocabulary.
    texts: what it was trained on.

  Returns:
    Number of pieces, texts, tokens a word, and the characters without a piece.
  """
  tokenizer = vocabularies.Tokenizer(path)
  tokens = sum(len(tokenizer.encode(text)) for text in texts)
  words = sum(len(text.split()) for text in texts)
  characters = Counter()
  for text in texts:
    characters.update(unicodedata.normalize("NFKC", text))
  unknown = {
    character: count
    for character, count in characters.most_common()
    if not character.isspace() and vocabularies.UNK_ID in tokenizer.encode(character)
  }
  shown = " ".join(list(unknown)[:20])
  lost = (
    f"{sum(unknown.values()):,} of {sum(characters.values()):,} characters unknown"
    f" ({len(unknown)} different: {shown})"
    if unknown
    else "no unknown characters"
  )
  return (
    f"{tokenizer.size - vocabularies.EXTRA_IDS:,} pieces; {len(texts):,} texts,"
    f" {tokens:,} tokens, {tokens / max(words, 1):.2f} a word; {lost}."
  )


if __name__ == "__main__":
  command_line.main(main)

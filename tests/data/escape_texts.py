"""Vocabularies that lack characters, and random texts full of them."""

import io
import random
import re
import string
from collections.abc import Callable

import pytest
import sentencepiece
from tiny_data import DIALOGUES, ROWS

from t5tune.data import escape
from t5tune.data.vocabularies import Tokenizer

# T5's own vocabulary has none of these.
LACKED = r"[{}\\<~^`|]"
BLOCKS = [
  *((0x00, 0xFF), (0x100, 0x24F), (0x300, 0x36F), (0x370, 0x6FF), (0x1100, 0x11FF)),
  *((0x2000, 0x218F), (0x2460, 0x25FF), (0x3000, 0x30FF), (0x4E00, 0x4FFF)),
  *((0xAC00, 0xACFF), (0xF900, 0xFFFD), (0x1D400, 0x1D4FF), (0x1F300, 0x1F9FF)),
  (0xE0000, 0xE01EF),
]
EMOJI = [*"🙂👍🥕", "👩‍🔬", "👍🏽", "❤️", "🇳🇴", " ", "ok"]
WORDS = ["Ana", "said", "no.", "#Person1#:", "#1", "C#", "x;", "#n", "<extra_id_0>"]
STATEMENTS = ["if (a < b) {", "return ~x ^ `y`;", "}", "", 's = "\\n";  # {}', "#endif"]


def train_t5_kind(path, **options) -> Tokenizer:
  """Trains a vocabulary with T5's normalisation and without the signs it lacks.

  Args:
    path: the file to write.
    **options: SentencePiece's own, in place of the usual ones.
  """
  lines = [
    re.sub(LACKED, " ", str(value))
    for rows in ROWS.values()
    for row in rows
    for value in row.values()
  ]
  usual = {
    **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "minloglevel": 2},
    **{"vocab_size": 200, "hard_vocab_limit": False},
    **{"required_chars": escape.NEEDED, "normalization_rule_name": "nmt_nfkc"},
  }
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines), model_writer=model, **usual | options
  )
  path.write_bytes(model.getvalue())
  return Tokenizer(path)


@pytest.fixture(scope="session")
def tokenizers(tmp_path_factory) -> dict[str, Tokenizer]:
  """Tokenizers by what sets their vocabularies apart."""
  folder = tmp_path_factory.mktemp("vocabularies")
  signs = escape.NEEDED + string.punctuation + string.ascii_letters
  options = {
    "t5": {},
    "rich": {"required_chars": signs + "éñ’…日本가\u1100\u1161\u0301🙂"},
    "bytes": {"byte_fallback": True, "vocab_size": 500},
    "lines": {"user_defined_symbols": ["\n", "\t", "{"]},
    "lower case": {"normalization_rule_name": "nmt_nfkc_cf"},
    "bpe": {"model_type": "bpe"},
  }
  return {
    name: train_t5_kind(folder / f"{name}.model", **option)
    for name, option in options.items()
  }


@pytest.fixture(scope="session")
def lacking(tmp_path_factory):
  """Path of a vocabulary without two of the digits that escapes are written with."""
  path = tmp_path_factory.mktemp("vocabularies") / "no7.model"
  return train_t5_kind(path, required_chars="").path


def _from(alphabet) -> Callable[[random.Random], str]:
  return lambda draw: "".join(draw.choices(alphabet, k=draw.randint(0, 40)))


def _code(draw: random.Random) -> str:
  return draw.choice(["\n", "\r\n"]).join(
    " " * draw.choice([0, 1, 4, 8, 25])
    + "\t" * draw.randint(0, 2)
    + draw.choice(STATEMENTS)
    for _ in range(draw.randint(1, 8))
  )


def _anything(draw: random.Random) -> str:
  points = (draw.randint(*draw.choice(BLOCKS)) for _ in range(draw.randint(0, 30)))
  return "".join(map(chr, points))


# Each draws a text.
FAMILIES: dict[str, Callable[[random.Random], str]] = {
  "signs": _from(string.punctuation + " "),
  "white space": _from(" \n\t\rab#"),
  "leads": _from("#####ntrx0129;()[]/-_ \nz"),
  "unicode": _anything,
  "code": _code,
  "dialogues": lambda draw: draw.choice(["\n", "\r\n"]).join(draw.sample(DIALOGUES, 2)),
  "emoji": _from(EMOJI),
  "marks": _from("ae \u0301\u0308\u0327\u0345\u1100\u1161\u11abﬁ½Å\u212b"),
  "words": lambda draw: draw.choice([" ", "  ", "\n"]).join(draw.choices(WORDS, k=9)),
}

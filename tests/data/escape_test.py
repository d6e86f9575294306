"""Escapes: every text comes back, whatever the vocabulary lacks; garbage is kept."""

import itertools
import json
import random
import re
import string

import pytest
from escape_texts import FAMILIES, train_t5_kind
from shared_data import shared_dir

from t5tune.data import escape
from t5tune.data.vocabularies import Tokenizer
from t5tune.errors import UserError


def come_back(tokenizer: Tokenizer, text: str) -> str:
  return tokenizer.decode(tokenizer.encode(text, escape=True), escape=True)


@pytest.mark.parametrize("name", ["t5", "rich", "bytes", "lines", "lower case", "bpe"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_text_comes_back(tokenizers, name, family):
  draw = random.Random(family)
  for _ in range(120):
    text = FAMILIES[family](draw)
    assert come_back(tokenizers[name], text) == text


def test_every_character_comes_back(tokenizers):
  points = itertools.chain(range(0x3400), range(0x3400, 0x110000, 199))
  for c in (chr(p) for p in points if not 0xD800 <= p <= 0xDFFF):
    for text in (c, f"a{c}b {c}"):
      assert come_back(tokenizers["t5"], text) == text


def test_the_tiny_vocabulary_gives_texts_back_too(vocabulary):
  tokenizer, draw = Tokenizer(vocabulary), random.Random(2)
  for _ in range(200):
    text = draw.choice([*FAMILIES.values()])(draw)
    assert come_back(tokenizer, text) == text


def test_escaped_text_holds_only_what_is_expressed():
  draw = random.Random(0)
  for _ in range(300):
    has = {*escape.NEEDED, *draw.sample(string.printable, 30)}
    text = draw.choice([*FAMILIES.values()])(draw)
    written = escape.escape(text, escape.Codes(has.__contains__))
    assert set(written) <= has | {" "}
    assert escape.unescape(written) == text
    # Spaces that SentencePiece would drop.
    assert not re.search(r"\A |  | \Z", written)


@pytest.mark.parametrize(
  ("text", "written"),
  [
    ("Hi.\nBob:", "Hi. #n Bob:"),
    ("\n\na \n", "#n #n a#1 #n"),
    ("f() {\n    a;\n}", "f() #( #n #3 a; #n #)"),
    ("  a  b   c ", "#1 a#1 b#2 c#1"),
    (" " * 12 + "a", "#9#2 a"),
    ("a\tb\r\n", "a #t b #r #n"),
    ("\\ < ~ ^ ` |", '#/ #[ #- #* #" #!'),
    ("café ½", "caf#xe9; #xbd;"),
    ("#Person1#: C# is #1 ## #n", "#Person1#: C# is ##1 ### ##n"),
    ("#{# \n", "###(###1 #n"),
    (" \u00a0 ", "#1#xa0;#1"),
    ("# \u00a0#", "# #xa0;#"),
  ],
)
def test_escapes_are_short_and_leave_the_rest(text, written):
  plain = {*string.ascii_letters, *string.digits, *"#/-*\"!()[]>;:.'"}
  assert escape.escape(text, escape.Codes(plain.__contains__)) == written
  assert escape.unescape(written) == text


def test_words_beside_a_line_break_keep_their_pieces(tokenizers):
  tokenizer = tokenizers["t5"]
  first, second = tokenizer.encode("at noon."), tokenizer.encode("Ana: Then")
  ids = tokenizer.encode("at noon.\n  Ana: Then", escape=True)
  assert ids[: len(first)] == first and ids[-len(second) :] == second


def test_what_the_vocabulary_has_stays(tokenizers):
  for name, text in [("rich", "{a <b> \\ é}"), ("lines", "{a\n\tb"), ("t5", "C# (x);")]:
    tokenizer = tokenizers[name]
    assert tokenizer.encode(text, escape=True) == tokenizer.encode(text)


def test_a_sentinel_in_an_escaped_text_is_text(tokenizers):
  for tokenizer in tokenizers.values():
    ids = tokenizer.encode("a<extra_id_7> b", escape=True)
    assert max(ids) < tokenizer.size - 100
    assert tokenizer.decode(ids, escape=True) == "a<extra_id_7> b"


def test_rules_across_characters_cost_more_escapes(tokenizers, tmp_path):
  # The vocabulary has both jamo and {, but NFKC joins the jamo to a syllable.
  rich = tokenizers["rich"]
  assert not rich.lost_characters("\u1100 \u1161 {")
  ids = rich.encode("\u1100\u1161é {", escape=True)
  assert rich.decode(ids) == "#x1100;#x1161;#xe9; {"
  # One of its own makes `--` one `-`.
  own = with_rule(tmp_path, "2D 2D\t2D\n")
  assert own.decode(own.encode("a--b")) == "a-b"
  assert come_back(own, "a--b") == "a--b"


def test_a_vocabulary_that_changes_escapes_is_named(tmp_path):
  own = with_rule(tmp_path, "23 78\t78\n")  # `#x` becomes `x`
  assert come_back(own, "abc-#") == "abc-#"
  with pytest.raises(UserError, match="own.model' does not give 'abcé' back, however"):
    own.encode("abcé", escape=True)


def with_rule(folder, rule: str) -> Tokenizer:
  (folder / "rules.tsv").write_text(rule)
  return train_t5_kind(
    folder / "own.model",
    normalization_rule_name="identity",
    normalization_rule_tsv=str(folder / "rules.tsv"),
    required_chars=escape.NEEDED + "-",
  )


@pytest.mark.parametrize(
  "text",
  [
    "#",
    "a #",
    "#q",
    "#xZZ;",
    "#x;",
    "#x12",
    "#x110000;",
    "#xd800;",
    "#x1234567;",
    "#0",
  ],
)
def test_what_is_no_escape_stays(text):
  assert escape.unescape(text) == text


def test_garbage_is_decoded(tokenizers):
  draw = random.Random(1)
  for _ in range(500):
    text = "".join(draw.choices("#x0fd8;ntr_( \n\U0010ffff", k=20))
    assert isinstance(escape.unescape(text), str)
    ids = [draw.randrange(-2, 500) for _ in range(20)]
    assert isinstance(tokenizers["t5"].decode(ids, escape=True), str)


def test_a_vocabulary_without_what_escapes_need_is_named(lacking, tmp_path):
  with pytest.raises(UserError, match="no7.model' does not express 7 9, with which"):
    Tokenizer(lacking).encode("plain", escape=True)
  words = train_t5_kind(tmp_path / "words.model", model_type="word")
  with pytest.raises(UserError, match="words.model' does not express"):
    words.encode("plain", escape=True)


def test_lost_characters_are_counted(tokenizers):
  t5, rich = tokenizers["t5"], tokenizers["rich"]
  lost = {"{": 2, "}": 1, "\n": 1, "\t": 1, "ﬁ": 1, "日": 2, "é": 1}
  assert t5.lost_characters("  {a}\n\t{ﬁ 日é日 ") == lost
  assert not t5.lost_characters("#Person1#: a;  b ")
  assert rich.lost_characters("{é}ﬁ\n") == {"ﬁ": 1, "\n": 1}
  # The vocabulary has the mark, but behind a letter it becomes a part of it.
  assert rich.lost_characters("e\u0301") == {"\u0301": 1}


@pytest.mark.parametrize("name", ["java_cs", "dialogsum", "samsum"])
def test_real_rows_come_back(tokenizers, name):
  with open(shared_dir() / "data" / name / "train.jsonl", encoding="utf-8") as lines:
    rows = [json.loads(line) for line in itertools.islice(lines, 300)]
  for row in rows:
    for text in (value for field, value in row.items() if field != "id"):
      assert come_back(tokenizers["t5"], text) == text

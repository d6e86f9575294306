"""Invented rows of every task's data set, and a vocabulary trained on them."""

import io
import json
import pathlib

import pytest
import sentencepiece

from t5tune.data import escape

DIALOGUES = [
  "Ana: Is the ferry running today?\r\nBo: It is, at noon.  \r\n\r\nAna: Then I'll pack.",
  "Bo: Who took my ladder?\nCas: Me. I'm painting the shed.\nBo: Bring it back by six.",
  "Cas: The oven is broken again.\nAna: Call Dee, she fixed it last time.",
  "Dee: Shall we play chess on Sunday?\nBo: Only if you let me win 🙂",
]
SUMMARIES = [
  "The ferry leaves at noon and Ana will pack.",
  "Cas has Bo's ladder and will return it by six. ",
  "Ana tells Cas to call Dee about the oven.",
  "Dee and Bo may play chess on Sunday.",
]
_QUESTION = "How many oars do {} boats with two oars each have?"

ROWS = {
  "samsum": [
    {"id": str(i), "dialogue": d, "summary": s}
    for i, (d, s) in enumerate(zip(DIALOGUES, SUMMARIES, strict=True))
  ],
  "dialogsum": [
    {"dialogue": d.replace("Ana", "#Person1#"), "summary": s}
    for d, s in zip(DIALOGUES, SUMMARIES, strict=True)
  ],
  "sst5": [
    {"text": "A quiet film about loud people .", "stars": 4},
    {"text": "Two hours of rain , and not one umbrella .", "stars": 1},
    {"text": "Neither here nor there .", "stars": 3},
  ],
  "java_cs": [
    {
      "java": f"public int get{name}() {{return {name.lower()};}}",
      "cs": f"public virtual int Get{name}(){{return {name.lower()};}}",
    }
    for name in ("Size", "Depth", "Width")
  ],
  "wnut17": [
    {
      "tokens": ["Kari", "Moe", "left", "Oslo", "for", "Red", "Kettle", "FM"],
      "tags": ["B-person", "I-person", "O", "B-location", "O"]
      + ["B-creative-work", "I-creative-work", "I-creative-work"],
    },
    {"tokens": ["so", "tired", "today", ":'("], "tags": ["O", "O", "O", "O"]},
    {"tokens": ["Tarn", "Vik", "!"], "tags": ["B-group", "B-location", "O"]},
  ],
  **{
    f"cot/{name}": [
      {
        "question": _QUESTION.format(boats),
        "chain_of_thought": f"{boats} boats with two oars: {boats} x 2 = {2 * boats}",
        "answer": str(2 * boats),
      }
      for boats in range(2, 6)
    ]
    for name in (
      *("aqua", "creak", "ecqa", "gsm8k"),
      *("qasc", "sensemaking", "strategyqa"),
    )
  },
}


def write_rows(path: pathlib.Path, rows: list) -> pathlib.Path:
  """Writes rows as JSON Lines, making the folder."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
  """A data directory with every data set, which the sources of the test read."""
  for dataset, rows in ROWS.items():
    write_rows(tmp_path / "data" / dataset / "train.jsonl", rows)
    write_rows(tmp_path / "data" / dataset / "validation.jsonl", rows[:2])
  several = {f"summary{i + 1}": SUMMARIES[i] for i in range(3)}
  write_rows(
    tmp_path / "data" / "dialogsum" / "validation.jsonl",
    [{"dialogue": DIALOGUES[0], **several}],
  )
  monkeypatch.setenv("T5TUNE_DATA_DIR", str(tmp_path / "data"))
  # Nothing that TFDS has on this machine takes part.
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
  return tmp_path / "data"


def train_vocabulary(path: pathlib.Path, **special_ids: int) -> pathlib.Path:
  """Trains a SentencePiece model of the rows' text; ids are T5's by default."""
  text = [
    line for rows in ROWS.values() for row in rows for line in map(str, row.values())
  ]
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(text),
    model_writer=model,
    vocab_size=160,
    required_chars=escape.NEEDED,
    hard_vocab_limit=False,
    minloglevel=2,
    **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1} | special_ids,
  )
  path.write_bytes(model.getvalue())
  return path


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory):
  """Path of a small SentencePiece model in T5's form."""
  return train_vocabulary(tmp_path_factory.mktemp("vocabulary") / "tiny.model")

"""Tests of scripts/train_vocabulary.py."""

import importlib.util
import itertools
import pathlib
import sys

import pytest
import seqio

from t5tune.data import sources, templates, vocabularies
from t5tune.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
PORTS = ["".join(p) for p in itertools.product("bdk", "aeo", "lnr", "iu")]
TEXT = "\n".join(
  f"The ferry number {i * 37} sails to {port} and {other} with {{crates}}."
  for i, (port, other) in enumerate(itertools.product(PORTS, PORTS[::7]))
)


@pytest.fixture(scope="module")
def script():
  path = ROOT / "scripts" / "train_vocabulary.py"
  spec = importlib.util.spec_from_file_location("train_vocabulary", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture
def text(tmp_path) -> pathlib.Path:
  path = tmp_path / "ferries.txt"
  path.write_text(TEXT)
  return path


@pytest.fixture
def module(tmp_path, monkeypatch):
  """The name of a module that registers one task of two training rows."""
  name = f"ferry_tasks_{tmp_path.name}"
  (tmp_path / f"{name}.py").write_text(
    f"""
import seqio
from t5tune.data import sources, templates, vocabularies

def ferries(split):
  return [{{"question": f"When does ferry {{i}} sail?", "answer": f"At {{i}}."}}
          for i in range(40)]

seqio.TaskRegistry.add(
  "{name}",
  source=sources.GeneratedSource(ferries, {{"question": str, "answer": str}}, ["train"]),
  preprocessors=[
    templates.fill([templates.Template("ask", "Tell me: {{question}}", "{{answer}}")]),
    seqio.preprocessors.tokenize,
    seqio.preprocessors.append_eos,
  ],
  output_features=vocabularies.output_features(),
)
"""
  )
  monkeypatch.syspath_prepend(tmp_path)
  yield name
  seqio.TaskRegistry.remove(name)
  sys.modules.pop(name, None)


def test_text_becomes_a_vocabulary_of_t5s_form(script, text, tmp_path, capsys):
  output = tmp_path / "ferries.model"
  flags = [f"--text={text}", "--size=60", f"--output={output}"]
  assert script.main([*flags, "--character_coverage=1"]) == 0
  tokenizer = vocabularies.Tokenizer(output)  # refuses other special ids
  assert tokenizer.size == 60 + vocabularies.EXTRA_IDS
  assert tokenizer.decode(tokenizer.encode("{ferry} 42")) == "{ferry} 42"
  printed = capsys.readouterr().out
  assert "60 pieces" in printed and "no unknown characters" in printed
  assert sorted(p.name for p in tmp_path.iterdir()) == ["ferries.model", "ferries.txt"]


def test_the_same_text_gives_the_same_bytes(script):
  assert script.train([TEXT], 60) == script.train([TEXT], 60)


def test_long_lines_are_not_left_out(script):
  long_line = " ".join(["zeppelin", "quartz"] * 2000)
  processor = vocabularies._load(script.train([TEXT, long_line], 60), "long")
  assert vocabularies.UNK_ID not in processor.encode("zeppelin quartz")


def test_pieces_keep_to_the_longest_length_and_digits_apart(script, tmp_path):
  path = tmp_path / "short.model"
  script.write(path, script.train([TEXT], 60, max_piece_length=3))
  processor = vocabularies.Tokenizer(path)._processor
  pieces = [processor.id_to_piece(i) for i in range(3, 60)]
  assert max(map(len, pieces)) == 3
  assert not [p for p in pieces if sum(map(str.isdigit, p)) > 1]


def test_rare_characters_are_left_out_and_reported(script, tmp_path):
  path = tmp_path / "rare.model"
  texts = [TEXT, "☃"]
  script.write(path, script.train(texts, 60, character_coverage=0.999))
  assert "☃" in script.summarize(path, texts)
  script.write(path, script.train(texts, 60, character_coverage=1.0))
  assert "no unknown characters" in script.summarize(path, texts)


def test_sizes_that_do_not_fit_name_one_that_does(script):
  with pytest.raises(UserError, match="at most") as caught:
    script.train([TEXT], 50_000)
  largest = int(str(caught.value).split("at most ")[1].split()[0])
  processor = vocabularies._load(script.train([TEXT], largest), "largest")
  assert processor.get_piece_size() == largest + vocabularies.EXTRA_IDS
  with pytest.raises(UserError, match="characters alone need"):
    script.train([TEXT], 10)


def test_a_mixture_gives_filled_templates_of_its_training_rows(
  script, module, tmp_path
):
  output = tmp_path / "task.model"
  flags = [f"--mixture={module}", f"--task_modules={module}", f"--output={output}"]
  assert script.main([*flags, "--size=39", "--rows_per_task=30"]) == 0
  texts = list(script.task_texts(seqio.TaskRegistry.get(module), 3))
  assert texts[:2] == ["Tell me: When does ferry 0 sail?", "At 0."]
  assert len(texts) == 6


def test_an_unknown_mixture_is_refused_with_the_nearest(script, module, tmp_path):
  output = tmp_path / "x.model"
  flags = [f"--mixture={module}s", f"--task_modules={module}", f"--output={output}"]
  with pytest.raises(UserError, match=f"Did you mean '{module}'"):
    script.main([*flags, "--size=40"])
  assert not output.exists()


def test_a_task_without_text_or_training_rows_is_named(script):
  def rows(split):
    return [{"text": "a"}]

  source = sources.GeneratedSource(rows, {"text": str}, ["test"])
  fill = templates.fill([templates.Template("t", "{text}", "{text}")])
  features = vocabularies.output_features()
  untrained = seqio.Task("untrained", source, features, [fill])
  with pytest.raises(UserError, match="'untrained' has no split 'train'"):
    next(script.task_texts(untrained, 1))
  source = sources.GeneratedSource(rows, {"text": str}, ["train"])
  tokens = [fill, seqio.preprocessors.tokenize, _only_tokens]
  with pytest.raises(UserError, match="no 'inputs_pretokenized'"):
    next(script.task_texts(seqio.Task("bare", source, features, tokens), 1))


def _only_tokens(dataset):
  return dataset.map(lambda row: {k: row[k] for k in ("inputs", "targets")})


@pytest.mark.parametrize(
  "changed, message",
  [
    ({"--text": "absent/*.txt"}, "matches no file"),
    ({"--text": None}, "give --mixture, --text or both"),
    ({"--output": "x.vocab"}, "ends in .model"),
    ({"--output": "no/such/folder/x.model"}, "a folder that exists"),
    ({"--size": "0"}, "--size=0: give at least 4"),
    ({"--size": "many"}, "invalid int value: 'many'"),
    ({"--character_coverage": "1.5"}, "above 0 and at most 1"),
    ({"--txet": "a"}, "Did you mean '--text'"),
  ],
)
def test_mistakes_in_flags_are_named(script, text, tmp_path, changed, message):
  flags = {"--text": text, "--size": 80, "--output": tmp_path / "x.model", **changed}
  with pytest.raises(UserError, match=message):
    script.main([f"{flag}={value}" for flag, value in flags.items() if value])


def test_text_that_is_not_utf8_is_named(script, text):
  text.write_bytes(b"\xff\xfe")
  with pytest.raises(UserError, match="ferries.txt cannot be read as UTF-8"):
    list(script.file_texts(str(text)))


def test_a_failed_write_leaves_the_old_file(script, tmp_path, monkeypatch):
  path = tmp_path / "old.model"
  path.write_bytes(b"old")

  def full(self, data):
    self.touch()
    raise OSError("disk full")

  monkeypatch.setattr(pathlib.Path, "write_bytes", full)
  with pytest.raises(OSError, match="disk full"):
    script.write(path, b"new")
  assert [p.name for p in tmp_path.iterdir()] == ["old.model"]
  assert path.read_bytes() == b"old"

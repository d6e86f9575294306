"""The command end to end: originals fetched by hand → prepared rows, and its errors."""

import hashlib
import json
import pathlib
import shutil

import pytest
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.checksums import compute_url_info

from t5tune.data import prepared, sources, tfds_builders
from t5tune.data.tfds_builders import __main__ as command
from t5tune.data.tfds_builders import dialogsum
from t5tune.errors import UserError

ORIGINALS = pathlib.Path(__file__).resolve().parents[2] / "testdata" / "tfds_builders"
FIRST_COT = "Is 0 more than 2 (aqua)?\nOptions:\n- yes\n- no"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
  def get(self, url, **unused):
    raise requests.exceptions.ConnectionError(f"no way to {url}")

  monkeypatch.setattr(requests.Session, "get", get)


@pytest.fixture
def by_hand(tmp_path):
  """The folder for files fetched by hand, holding all the dummy originals."""
  folder = tmp_path / "downloads" / "manual"
  folder.mkdir(parents=True)
  for path in ORIGINALS.glob("*/*.*"):
    shutil.copy(path, folder)
  zipped = folder / "trainDevTestTrees_PTB"
  shutil.make_archive(str(zipped), "zip", ORIGINALS / "sst5")
  return folder


@pytest.fixture
def published(by_hand, monkeypatch):
  """Makes the dummy originals the published ones: their checksums are expected."""
  tfds_builders.register()
  for name in set(tfds_builders.BUILDERS.values()) - {"samsum"}:
    builder = tfds.builder(name, data_dir=by_hand)
    infos = dict(type(builder).url_infos)
    for url in builder.urls.values():
      if url in infos:
        infos[url] = compute_url_info(by_hand / url.rsplit("/", 1)[-1])
        infos[url].filename = url.rsplit("/", 1)[-1]
    monkeypatch.setattr(type(builder), "url_infos", infos)
  content = (by_hand / "dialogsum.train.jsonl").read_bytes()
  blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
  monkeypatch.setattr(dialogsum, "TRAIN_GIT_BLOB", blob)


def rows(name: str, split: str, data_dir: pathlib.Path) -> list[dict]:
  builder = prepared.find(tfds_builders.BUILDERS[name], data_dir)
  return [row for _, row in prepared.rows(builder, split)]


def test_dialogsum_rows(published, tmp_path, capsys):
  command.main(["dialogsum", f"--data_dir={tmp_path}"])
  assert "train 2, validation 1, test 1 rows" in capsys.readouterr().out
  first, second = rows("dialogsum", "train", tmp_path)
  assert (first["id"], second["id"]) == ("train_0", "train_1")
  assert first["summary"] == "The kettle is broken, so they drink water."
  assert first["summary1"] == first["topic3"] == ""
  (test,) = rows("dialogsum", "test", tmp_path)
  filled = {name for name, value in test.items() if value}
  references = {f"{kind}{i}" for kind in ("summary", "topic") for i in (1, 2, 3)}
  assert filled == {"id", "dialogue"} | references
  assert test["summary2"] == "There are only pears."


def test_tfds_rows_are_the_rows_of_json_lines(published, tmp_path, monkeypatch):
  """With its fields renamed, the original is the JSON Lines layout itself."""
  command.main(["dialogsum", f"--data_dir={tmp_path}"])
  fields = {"id": str, "dialogue": str}
  optional = {name: str for name in ("summary", "summary1", "summary2", "summary3")}
  for split in ("train", "test"):
    monkeypatch.setenv("T5TUNE_DATA_DIR", str(tmp_path))
    source = sources.RowSource("dialogsum", fields, optional)
    from_tfds = list(source.rows(split))
    folder = tmp_path / "json" / "dialogsum"
    folder.mkdir(parents=True, exist_ok=True)
    original = (ORIGINALS / "dialogsum" / f"dialogsum.{split}.jsonl").read_text()
    (folder / f"{split}.jsonl").write_text(original.replace('"fname"', '"id"'))
    monkeypatch.setenv("T5TUNE_DATA_DIR", str(tmp_path / "json"))
    assert list(source.rows(split)) == from_tfds != []


def test_rows_of_the_other_sets(published, tmp_path):
  command.main(["sst5", "java_cs", "wnut17", "cot/aqua", f"--data_dir={tmp_path}"])
  assert rows("sst5", "train", tmp_path) == [
    {"text": "Warm ( and ) wise .", "stars": 5},
    {"text": "Half soup 2 1/2 hours*", "stars": 1},
  ]
  assert rows("java_cs", "train", tmp_path)[1] == {
    "java": "public int trainSize1() {return 1;}",
    "cs": "public virtual int TrainSize1(){return 1;}",
  }
  assert rows("wnut17", "train", tmp_path) == [
    {
      "tokens": ["Zorblat", "in", "New", "Quux"],
      "tags": ["B-person", "O", "B-location", "I-location"],
    },
    {"tokens": ["hm"], "tags": ["O"]},
  ]
  assert len(rows("wnut17", "validation", tmp_path)) == 2  # Two empty lines between.
  assert rows("wnut17", "test", tmp_path)[0]["tokens"] == ["Brrr", "!"]
  held_out = rows("cot/aqua", "validation", tmp_path)
  assert [row["question"] for row in held_out] == [
    FIRST_COT,
    FIRST_COT.replace("0", "20"),
  ]
  assert held_out[1]["chain_of_thought"] == "20 is compared with 2.\nThat is all."
  train = rows("cot/aqua", "train", tmp_path)
  assert [train[0]["question"], len(train)] == ["How many\u2028spoons?", 20]


def test_second_run_needs_no_originals(published, by_hand, tmp_path, capsys):
  command.main(["wnut17", f"--data_dir={tmp_path}"])
  shutil.rmtree(by_hand)
  (tmp_path / "wnut17" / "train.jsonl").touch()
  command.main(["wnut17", f"--data_dir={tmp_path}"])
  assert "not read while JSON Lines files stand in" in capsys.readouterr().out


@pytest.mark.parametrize(
  "name, file",
  [("dialogsum", "dialogsum.test.jsonl"), ("sst5", "trainDevTestTrees_PTB.zip")],
)
def test_other_files_than_the_published_are_refused(by_hand, tmp_path, name, file):
  """Here the expected checksums are the true ones, and the originals dummies."""
  with pytest.raises(UserError, match="not the one that was published") as error:
    command.main([name, f"--data_dir={tmp_path}"])
  assert file in str(error.value) and "https://" in str(error.value)
  assert prepared.find(name, tmp_path) is None


def test_training_file_with_another_blob_is_refused(published, tmp_path, monkeypatch):
  monkeypatch.setattr(dialogsum, "TRAIN_GIT_BLOB", "0" * 40)
  with pytest.raises(UserError, match="dialogsum.train.jsonl is not the file"):
    command.main(["dialogsum", f"--data_dir={tmp_path}"])
  assert prepared.find("dialogsum", tmp_path) is None


def test_failed_download_names_addresses_and_folder(tmp_path):
  with pytest.raises(UserError, match="Could not download 'cot/qasc'") as error:
    command.main(["cot/qasc", f"--data_dir={tmp_path}"])
  address = "google-research/FLAN/e9e4ec6e2701182c7a91af176f705310da541277/flan/v2"
  assert f"{address}/cot_data/qasc_train.tsv" in str(error.value)
  assert str(tmp_path / "downloads" / "manual") in str(error.value)


def test_samsum_is_fetched_by_hand(by_hand, tmp_path):
  with pytest.raises(UserError, match="train.json: there is no such file.*corpus.7z"):
    command.main(["samsum", f"--data_dir={tmp_path}"])
  (by_hand / "train.json").write_text("[")
  with pytest.raises(UserError, match="train.json: it is not JSON"):
    command.main(["samsum", f"--data_dir={tmp_path}"])
  for split in ("train", "val", "test"):
    row = {"id": f"{split}7", "dialogue": "Ann: hi\r\nBo: ho", "summary": "They greet."}
    (by_hand / f"{split}.json").write_text(json.dumps([row]))
  command.main(["samsum", f"--data_dir={tmp_path}"])
  assert rows("samsum", "test", tmp_path) == [row]


def test_mistakes_on_the_command_line(tmp_path):
  with pytest.raises(UserError, match="Did you mean 'dialogsum'"):
    command.main(["wnut17", "dialogusm", f"--data_dir={tmp_path}"])
  assert not any(tmp_path.iterdir())  # Found before anything was downloaded.
  (tmp_path / "file").touch()
  with pytest.raises(UserError, match="Could not prepare 'wnut17' under .*file"):
    command.main(["wnut17", f"--data_dir={tmp_path / 'file'}"])

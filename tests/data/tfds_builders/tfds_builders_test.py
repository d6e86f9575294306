"""TFDS's own checks of our builders, on small files in the originals' formats."""

import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from t5tune.data import tfds_builders
from t5tune.data.tfds_builders import dialogsum, files, flan_cot, java_cs, sst5, wnut17
from t5tune.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[3]
ORIGINALS = ROOT / "tests" / "testdata" / "tfds_builders"
CLASSES = {
  builder.name: builder
  for builder in (
    dialogsum.Dialogsum,
    flan_cot.FlanCot,
    java_cs.JavaCs,
    sst5.Sst5,
    wnut17.Wnut17,
  )
}


@pytest.fixture(scope="module", autouse=True)
def seed():
  """TFDS's tests seed tensorflow for good; what others draw must stay chance."""
  yield
  tf.random.set_seed(None)


class DialogsumTest(tfds.testing.DatasetBuilderTestCase):
  DATASET_CLASS = dialogsum.Dialogsum
  EXAMPLE_DIR = ORIGINALS / "dialogsum"
  SPLITS = {"train": 2, "validation": 1, "test": 1}
  DL_DOWNLOAD_RESULT = {
    "train": "dialogsum.train.jsonl",
    "validation": "dialogsum.dev.jsonl",
    "test": "dialogsum.test.jsonl",
  }
  # The training file is verified by its git blob id.
  SKIP_CHECKSUMS = True

  @pytest.fixture(autouse=True)
  def _blob_of_dummy(self, monkeypatch):
    blob = "ad7de2fead42de4f30529d502ff2fe6181315437"
    monkeypatch.setattr(dialogsum, "TRAIN_GIT_BLOB", blob)


class Sst5Test(tfds.testing.DatasetBuilderTestCase):
  DATASET_CLASS = sst5.Sst5
  EXAMPLE_DIR = ORIGINALS
  SPLITS = {"train": 2, "validation": 1, "test": 1}
  DL_EXTRACT_RESULT = {"trees": "sst5"}


class JavaCsTest(tfds.testing.DatasetBuilderTestCase):
  DATASET_CLASS = java_cs.JavaCs
  EXAMPLE_DIR = ORIGINALS / "java_cs"
  SPLITS = {"train": 2, "validation": 1, "test": 1}
  DL_DOWNLOAD_RESULT = {
    f"{split}.{language}": f"{file}.java-cs.txt.{language}"
    for split, file in (("train", "train"), ("validation", "valid"), ("test", "test"))
    for language in ("java", "cs")
  }


class Wnut17Test(tfds.testing.DatasetBuilderTestCase):
  DATASET_CLASS = wnut17.Wnut17
  EXAMPLE_DIR = ORIGINALS / "wnut17"
  SPLITS = {"train": 2, "validation": 2, "test": 1}
  DL_DOWNLOAD_RESULT = {
    "train": "wnut17train.conll",
    "validation": "emerging.dev.conll",
    "test": "emerging.test.annotated",
  }


class FlanCotTest(tfds.testing.DatasetBuilderTestCase):
  DATASET_CLASS = flan_cot.FlanCot
  EXAMPLE_DIR = ORIGINALS / "flan_cot"
  SPLITS = {"train": 20, "validation": 2}
  DL_DOWNLOAD_RESULT = {"rows": "gsm8k_train.tsv"}


def test_names_are_found_and_collide_with_none_of_tfds():
  tfds_builders.register()
  tfds_builders.register()  # Cheap and harmless to repeat.
  for name in tfds_builders.BUILDERS.values():
    tfds.builder_cls(name.split("/")[0])
  for name in CLASSES:
    assert not (tfds.core.tfds_path("datasets") / name).exists()


def test_all_files_are_verified(tmp_path):
  for name, cls in CLASSES.items():
    for config in cls.builder_configs or [None]:
      builder = cls(data_dir=tmp_path, config=config)
      for url in builder.urls.values():
        if url.endswith("/dialogsum.train.jsonl"):
          continue  # By its git blob id.
        info = cls.url_infos[url]
        assert info.filename == url.rsplit("/", 1)[-1], (name, url)
        assert len(info.checksum) == 64 and info.size > 0


def test_git_blob_is_what_git_computes(tmp_path):
  path = tmp_path / "hello"
  path.write_bytes(b"hello\n")
  # `echo hello | git hash-object --stdin`
  files.check_git_blob(path, "ce013625030ba8dba906f756967f9e9ca394464a")
  with pytest.raises(UserError, match="hello is not the file that its authors"):
    files.check_git_blob(path, "0" * 40)


def test_lines_break_at_line_feeds_only(tmp_path):
  path = tmp_path / "lines"
  path.write_bytes("a\u2028b\r\x0b\x85\n\nc".encode())
  assert files.read_lines(path) == ["a\u2028b\r\x0b\x85", "", "c"]


def test_names_are_known_without_tensorflow():
  code = (
    "import sys; import t5tune.data.tfds_builders.__main__;"
    "assert not {'tensorflow', 'tensorflow_datasets'} & set(sys.modules)"
  )
  subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)

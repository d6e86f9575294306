"""DialogSum as its authors publish it: JSON Lines on GitHub → rows."""

import json
from collections.abc import Iterator

import tensorflow_datasets as tfds
from etils import epath

from t5tune.data.tfds_builders.files import check_git_blob, read_lines

_COMMIT = "848cc8c05e0a04def79326539de827f1b28786a0"
_FOLDER = f"https://raw.githubusercontent.com/cylnlp/dialogsum/{_COMMIT}/DialogSum_Data"
_FIELDS = ("id", "dialogue", "summary", "topic") + tuple(
  f"{name}{i}" for i in (1, 2, 3) for name in ("summary", "topic")
)
# The training file has no SHA-256 on record, so checksums.tsv cannot hold it; this is
# its identity in the authors' repository.
TRAIN_GIT_BLOB = "0a02b0f0cbe801a75384ba28364a7528b9340587"


class Dialogsum(tfds.core.GeneratorBasedBuilder):
  """Dialogues with a summary each, and with three in the test split."""

  VERSION = tfds.core.Version("1.0.0")

  @property
  def urls(self) -> dict[str, str]:
    """Address of each split's file."""
    names = {"train": "train", "validation": "dev", "test": "test"}
    return {s: f"{_FOLDER}/dialogsum.{name}.jsonl" for s, name in names.items()}

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=(
        "Real-life scenario dialogues with human summaries and topics. Rows of"
        " `train` and `validation` fill `summary` and `topic`; rows of `test` fill"
        " `summary1` to `summary3` and `topic1` to `topic3`. The others are empty."
      ),
      features=tfds.features.FeaturesDict(
        {name: tfds.features.Text() for name in _FIELDS}
      ),
      homepage="https://github.com/cylnlp/dialogsum",
      license="CC BY-NC-SA 4.0",
      citation=(
        "Yulong Chen, Yang Liu, Liang Chen, Yue Zhang. DialogSum: A Real-Life Scenario"
        " Dialogue Summarization Dataset. Findings of ACL-IJCNLP 2021."
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    urls = self.urls
    # TFDS looks among files fetched by hand only for those with a known SHA-256.
    by_hand = dl_manager.download_dir / "manual" / urls["train"].rsplit("/", 1)[-1]
    paths = {"train": by_hand}
    if by_hand.exists():
      del urls["train"]
    paths |= dl_manager.download(urls)
    check_git_blob(paths["train"], TRAIN_GIT_BLOB)
    return {split: self._generate_examples(paths[split]) for split in self.urls}

  def _generate_examples(self, path: epath.Path) -> Iterator[tuple[int, dict]]:
    for i, line in enumerate(read_lines(path)):
      original = json.loads(line)
      original["id"] = original.pop("fname")
      yield i, {name: original.get(name, "") for name in _FIELDS}

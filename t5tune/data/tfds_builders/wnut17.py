"""WNUT 2017 emerging entities: CoNLL files on GitHub → rows."""

from collections.abc import Iterator

import tensorflow_datasets as tfds
from etils import epath

from t5tune.data.tfds_builders.files import read_lines

_COMMIT = "e52a2d2a71ac1a051ca2d532eef28653c5c02603"
_FOLDER = f"https://raw.githubusercontent.com/leondz/emerging_entities_17/{_COMMIT}"


class Wnut17(tfds.core.GeneratorBasedBuilder):
  """Sentences of social media with BIO tags of six kinds of entity."""

  VERSION = tfds.core.Version("1.0.0")

  @property
  def urls(self) -> dict[str, str]:
    """Address of each split's file."""
    return {
      "train": f"{_FOLDER}/wnut17train.conll",
      "validation": f"{_FOLDER}/emerging.dev.conll",
      "test": f"{_FOLDER}/emerging.test.annotated",
    }

  def _info(self) -> tfds.core.DatasetInfo:
    texts = tfds.features.Sequence(tfds.features.Text())
    return tfds.core.DatasetInfo(
      builder=self,
      description=(
        "Novel and emerging entities: corporation, creative-work, group, location,"
        " person, product."
      ),
      features=tfds.features.FeaturesDict({"tokens": texts, "tags": texts}),
      homepage="https://github.com/leondz/emerging_entities_17",
      license="CC BY 4.0",
      citation=(
        "Leon Derczynski, Eric Nichols, Marieke van Erp, Nut Limsopatham. Results of the"
        " WNUT2017 Shared Task on Novel and Emerging Entity Recognition. W-NUT 2017."
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    paths = dl_manager.download(self.urls)
    return {split: self._generate_examples(paths[split]) for split in self.urls}

  def _generate_examples(self, path: epath.Path) -> Iterator[tuple[int, dict]]:
    key, row = 0, {"tokens": [], "tags": []}
    for line in [*read_lines(path), ""]:
      # One empty line of the training file holds a lone tab.
      if line.strip():
        token, tag = line.split("\t")
        row["tokens"].append(token)
        row["tags"].append(tag)
      elif row["tokens"]:
        yield key, row
        key, row = key + 1, {"tokens": [], "tags": []}

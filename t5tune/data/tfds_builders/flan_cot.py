"""Chain-of-thought sets as prepared in the FLAN collection: tab-separated → rows."""

from collections.abc import Iterator

import tensorflow_datasets as tfds
from etils import epath

from t5tune.data.tfds_builders import COT_DATASETS
from t5tune.data.tfds_builders.files import read_lines

_COMMIT = "e9e4ec6e2701182c7a91af176f705310da541277"
_FOLDER = (
  f"https://raw.githubusercontent.com/google-research/FLAN/{_COMMIT}/flan/v2/cot_data"
)
_FIELDS = ("question", "answer", "chain_of_thought")
_VALIDATION_EVERY = 20


class FlanCot(tfds.core.GeneratorBasedBuilder):
  """Questions with an answer and the reasoning that leads to it; a config a set."""

  VERSION = tfds.core.Version("1.0.0")
  BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in COT_DATASETS]

  @property
  def urls(self) -> dict[str, str]:
    """Address of the set's one file."""
    return {"rows": f"{_FOLDER}/{self.builder_config.name}_train.tsv"}

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=(
        "The collection has training rows only: `validation` is every twentieth row,"
        " from the first on, and `train` the others."
      ),
      features=tfds.features.FeaturesDict(
        {name: tfds.features.Text() for name in _FIELDS}
      ),
      homepage="https://github.com/google-research/FLAN",
      license="Apache 2.0 for the collection; each set has its authors' own licence.",
      citation=(
        "Shayne Longpre et al. The Flan Collection: Designing Data and Methods for"
        " Effective Instruction Tuning. ICML 2023."
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    path = dl_manager.download(self.urls)["rows"]
    return {
      "train": self._generate_examples(path, held_out=False),
      "validation": self._generate_examples(path, held_out=True),
    }

  def _generate_examples(
    self, path: epath.Path, held_out: bool
  ) -> Iterator[tuple[int, dict]]:
    for i, line in enumerate(read_lines(path)):
      if (i % _VALIDATION_EVERY == 0) == held_out:
        # Line breaks stand as a backslash and an n, as in FLAN's simple_cot_tsv.
        values = [value.replace("\\n", "\n").strip() for value in line.split("\t")]
        yield i, dict(zip(_FIELDS, values, strict=True))

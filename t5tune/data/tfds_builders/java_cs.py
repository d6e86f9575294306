"""Java and C# functions of CodeXGLUE: two parallel files a split → rows."""

from collections.abc import Iterator

import tensorflow_datasets as tfds
from etils import epath

from t5tune.data.tfds_builders.files import read_lines

_COMMIT = "ac74a62802a0dd159b3258c78a2df8ad36cdf2b9"
_FOLDER = (
  f"https://raw.githubusercontent.com/microsoft/CodeXGLUE/{_COMMIT}"
  "/Code-Code/code-to-code-trans/data"
)
_SPLITS = {"train": "train", "validation": "valid", "test": "test"}
_LANGUAGES = ("java", "cs")


class JavaCs(tfds.core.GeneratorBasedBuilder):
  """The same function in Java and in C#."""

  VERSION = tfds.core.Version("1.0.0")

  @property
  def urls(self) -> dict[str, str]:
    """Address of each split's file in each language."""
    return {
      f"{split}.{language}": f"{_FOLDER}/{name}.java-cs.txt.{language}"
      for split, name in _SPLITS.items()
      for language in _LANGUAGES
    }

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=(
        "Parallel functions of open-source projects kept in both languages (Lucene,"
        " POI, JGit, Antlr), from CodeXGLUE's code-to-code-trans."
      ),
      features=tfds.features.FeaturesDict(
        {language: tfds.features.Text() for language in _LANGUAGES}
      ),
      homepage=(
        "https://github.com/microsoft/CodeXGLUE/tree/main/Code-Code/code-to-code-trans"
      ),
      license="Computational Use of Data Agreement (C-UDA); the functions' own projects",
      citation=(
        "Shuai Lu et al. CodeXGLUE: A Machine Learning Benchmark Dataset for Code"
        " Understanding and Generation. NeurIPS Datasets and Benchmarks 2021."
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    paths = dl_manager.download(self.urls)
    return {
      split: self._generate_examples(*(paths[f"{split}.{lang}"] for lang in _LANGUAGES))
      for split in _SPLITS
    }

  def _generate_examples(
    self, java: epath.Path, cs: epath.Path
  ) -> Iterator[tuple[int, dict]]:
    pairs = zip(read_lines(java), read_lines(cs), strict=True)
    for i, functions in enumerate(pairs):
      stripped = map(str.strip, functions)
      yield i, dict(zip(_LANGUAGES, stripped, strict=True))

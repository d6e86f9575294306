"""Stanford Sentiment Treebank with its five classes: parse trees → rows."""

import re
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from t5tune.data.tfds_builders.files import read_lines

_URL = "https://nlp.stanford.edu/sentiment/trainDevTestTrees_PTB.zip"
# A leaf is `(class token)`; a node is `(class node node)`.
_LEAF = re.compile(r"\([0-4] ([^()]+)\)")
# What the Penn Treebank's notation writes for characters that it uses itself. Three
# tokens hold a no-break space.
_ESCAPES = {"-LRB-": "(", "-RRB-": ")", r"\/": "/", r"\*": "*", "\xa0": " "}


class Sst5(tfds.core.GeneratorBasedBuilder):
  """Sentences of film reviews, rated 1 to 5."""

  VERSION = tfds.core.Version("1.0.0")

  @property
  def urls(self) -> dict[str, str]:
    """Address of the one archive."""
    return {"trees": _URL}

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=(
        "Whole sentences of the Stanford Sentiment Treebank with the class of their"
        " root: `stars` is 1 for very negative to 5 for very positive."
      ),
      features=tfds.features.FeaturesDict(
        {"text": tfds.features.Text(), "stars": tfds.features.Scalar(np.int64)}
      ),
      homepage="https://nlp.stanford.edu/sentiment/",
      license="The authors state no licence with the archive.",
      citation=(
        "Richard Socher, Alex Perelygin, Jean Wu, Jason Chuang, Christopher Manning,"
        " Andrew Ng, Christopher Potts. Recursive Deep Models for Semantic"
        " Compositionality Over a Sentiment Treebank. EMNLP 2013."
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    trees = dl_manager.download_and_extract(self.urls)["trees"] / "trees"
    names = {"train": "train.txt", "validation": "dev.txt", "test": "test.txt"}
    return {s: self._generate_examples(trees / name) for s, name in names.items()}

  def _generate_examples(self, path: epath.Path) -> Iterator[tuple[int, dict]]:
    for i, tree in enumerate(read_lines(path)):
      text = " ".join(_LEAF.findall(tree))
      for written, meant in _ESCAPES.items():
        text = text.replace(written, meant)
      yield i, {"text": text, "stars": int(tree[1]) + 1}

"""TFDS builders of the public datasets: originals → rows, before any task reads them.

One module a dataset, each with the one builder that TFDS itself lacks. Rows carry the
field names of the JSON Lines layout, in the order of the original file. Prepare them
with `python -m t5tune.data.tfds_builders NAME --data_dir=DIR`; see docs/data.md.
"""

import importlib

COT_DATASETS = (
  "aqua",
  "creak",
  "ecqa",
  "gsm8k",
  "qasc",
  "sensemaking",
  "strategyqa",
)

# From the dataset's folder in the JSON Lines layout to its name in TFDS. `samsum` is
# TFDS's own builder; its features are our fields already.
BUILDERS: dict[str, str] = {
  "dialogsum": "dialogsum",
  "samsum": "samsum",
  "sst5": "sst5",
  "java_cs": "java_cs",
  "wnut17": "wnut17",
  **{f"cot/{name}": f"flan_cot/{name}" for name in COT_DATASETS},
}


def register() -> None:
  """Makes `tfds.builder` find the builders of this package; imports tensorflow."""
  for module in ("dialogsum", "flan_cot", "java_cs", "sst5", "wnut17"):
    importlib.import_module(f"{__name__}.{module}")

"""Packaging of t5tune: `tasks/` and `gin/` ship inside the package."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
  r'__version__ = "([^"]+)"', (ROOT / "t5tune" / "__init__.py").read_text()
).group(1)

TEST = ["dill>=0.3.7", "pytest>=8.0,<10", "pytest-xdist>=3.5,<4", "pyyaml>=6"]

setuptools.setup(
  name="t5tune",
  version=VERSION,
  description="Multitask fine-tuning of FLAN-T5 in JAX and Flax.",
  long_description=(ROOT / "README.md").read_text(),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  license_files=["LICENSE"],
  python_requires=">=3.11",
  # `tasks/` and `gin/` stand at the top of the repository and install as
  # `t5tune.tasks` and `t5tune.gin`. The latter holds no Python and has no
  # `__init__.py`: one would shadow gin-config in a checkout.
  packages=[
    "t5tune",
    "t5tune.benchmarking",
    "t5tune.data",
    "t5tune.data.inspection",
    "t5tune.data.tfds_builders",
    "t5tune.evaluation",
    "t5tune.gin",
    "t5tune.gin.models",
    "t5tune.gin.runs",
    "t5tune.gin.t5x",
    "t5tune.models",
    "t5tune.planning",
    "t5tune.reporting",
    "t5tune.tasks",
    "t5tune.training",
    "t5tune.weights",
  ],
  package_dir={"t5tune.gin": "gin", "t5tune.tasks": "tasks"},
  package_data={
    "t5tune.data.inspection": ["page.html", "style.css"],
    "t5tune.data.tfds_builders": ["checksums.tsv"],
    "t5tune.gin": ["*.gin"],
    "t5tune.gin.models": ["*.gin"],
    "t5tune.gin.runs": ["*.gin"],
    "t5tune.gin.t5x": ["*.gin"],
    "t5tune.models": ["*.cc", "*.h"],
    "t5tune.reporting": ["report.html"],
    "t5tune.tasks": ["vocabularies/*"],
  },
  install_requires=[
    "flax>=0.12,<0.13",
    "gin-config>=0.5,<0.6",
    "grain>=0.2.12,<0.3",
    "huggingface_hub>=0.34,<3",
    "filelock>=3.12,<4",  # jax's, for a compilation cache of limited size
    # tensorflow-datasets needs it to prepare data, and does not declare it.
    "importlib_resources>=6",
    "jax>=0.8,<0.12",
    "jinja2>=3.1,<4",
    "markupsafe>=2.1,<4",
    "matplotlib>=3.8,<4",
    "ml_dtypes>=0.5,<1",
    "nltk>=3.8,<4",
    "numpy>=2.0,<3",
    "optax>=0.2.5,<0.3",
    "orbax-checkpoint>=0.12,<0.13",
    "pyarrow>=15,<30",
    "py-rouge>=1.1,<2",
    "rich>=13,<16",
    "rouge-score>=0.1.2,<0.2",
    "sacrebleu>=2.4,<3",
    "safetensors>=0.5,<1",
    "sentencepiece>=0.2,<0.3",
    "seqio>=0.0.20,<0.1",
    "tensorboardX>=2.6,<3",
    "tensorflow>=2.18,<3",
    "tensorflow-datasets>=4.9.9,<5",
    "tensorflow-text>=2.18,<3",
    "tensorstore>=0.1.84,<0.2",
  ],
  extras_require={
    "cuda": ["jax[cuda13]>=0.8,<0.12"],
    "tpu": ["jax[tpu]>=0.8,<0.12"],
    "test": TEST,
    "dev": TEST + ["ruff>=0.14,<1", "pre-commit>=4,<5"],
  },
  classifiers=[
    "License :: OSI Approved :: Apache Software License",
    "Programming Language :: Python :: 3.11",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
  ],
)

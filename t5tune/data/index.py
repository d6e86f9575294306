"""What of a mixture is on disk: the trainer's whole knowledge of its data.

`preparation.prepare` writes an index for every request; as long as nothing it depends
on has changed, a run starts from the index and never imports tensorflow.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

from t5tune import errors
from t5tune.data import fingerprint


@dataclasses.dataclass(frozen=True)
class Request:
  """The data that a run asks for.

  Attributes:
    mixture: a SeqIO mixture or task.
    task_modules: modules that register it.
    data_dir: folder of `<dataset>/<split>.jsonl`, or None.
    vocabulary: path of the SentencePiece model.
    input_length: longest input, end of sequence included.
    target_length: longest target, end of sequence included.
    row_lengths: input and target length of a row of a batch; None to choose them
      from the stored lengths.
    row_tokens: most tokens of a row whose lengths are chosen; None for the default.
    batch_size: rows of a batch.
    pack: whether examples share rows.
    seed: seed of templates and order.
    train_steps: length of the run in updates, or None.
    train_epochs: length of the run in epochs, or None.
    max_passes: most passes (drawings of the templates) of a task.
    splits: the splits that are evaluated.
    train: whether training passes are needed at all.
    held_out_templates: names or tags of templates that training does not draw,
      'task/name' for those of one task.
    eval_template: the template that evaluation uses; None for each task's first,
      'all' for every one of them.
    files: the user's own files as a task (`user_files.FileTask`, as JSON), or None.
    data_cap: most training rows of a task, for all or by task; None for no cap.
    cache_dirs: folders of SeqIO's offline caches.
    named_by: what names the mixture, for messages.
  """

  mixture: str
  task_modules: tuple[str, ...]
  data_dir: str | None
  vocabulary: str
  input_length: int
  target_length: int
  row_lengths: tuple[int, int] | None
  batch_size: int
  pack: bool
  seed: int
  train_steps: int | None
  train_epochs: float | None
  max_passes: int
  splits: tuple[str, ...]
  train: bool
  row_tokens: int | None = None
  held_out_templates: tuple[str, ...] = ()
  eval_template: str | None = None
  files: dict[str, Any] | None = None
  data_cap: int | dict[str, int] | None = None
  cache_dirs: tuple[str, ...] = ()
  named_by: str = "MIXTURE"

  @property
  def lengths(self) -> dict[str, int]:
    """Longest inputs and targets, as SeqIO's `sequence_length`."""
    return {"inputs": self.input_length, "targets": self.target_length}

  def to_json(self) -> dict[str, Any]:
    return dataclasses.asdict(self)

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> "Request":
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@dataclasses.dataclass(frozen=True)
class PreparedTask:
  """A task of a mixture whose tokens are on disk.

  Attributes:
    name: the task's name in SeqIO's registry.
    rate: its mixing rate.
    passes: directories of its training stores; epoch e of the task reads
      `passes[e % len(passes)]`. Empty where only evaluation was asked for.
    splits: evaluation split -> directory of its store.
    variants: evaluation split -> template -> directory of its store, where every
      template is evaluated.
  """

  name: str
  rate: float
  passes: tuple[str, ...]
  splits: dict[str, str]
  variants: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

  @property
  def stores(self) -> list[str]:
    """All its stores."""
    variants = [s for stores in self.variants.values() for s in stores.values()]
    return [*self.passes, *self.splits.values(), *variants]


@dataclasses.dataclass(frozen=True)
class PreparedMixture:
  """A mixture whose tokens are on disk.

  Attributes:
    name: the mixture's (or single task's) name.
    tasks: its tasks, sorted by name.
    fingerprint: names all that shaped the training tokens.
    row_lengths: input and target length of a row of a batch.
  """

  name: str
  tasks: tuple[PreparedTask, ...]
  fingerprint: str
  row_lengths: tuple[int, int] = (0, 0)

  def to_json(self) -> dict[str, Any]:
    return dataclasses.asdict(self)

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> "PreparedMixture":
    tasks = tuple(
      PreparedTask(**{**t, "passes": tuple(t["passes"])}) for t in values["tasks"]
    )
    return cls(
      **{**values, "tasks": tasks, "row_lengths": tuple(values["row_lengths"])}
    )


def path(store_dir: str | os.PathLike, request: Request) -> pathlib.Path:
  """Returns where the index for a request lies under the folder of all stores."""
  # Where modules and prepared data sets are found.
  places = [os.getcwd(), *map(os.environ.get, ("PYTHONPATH", "TFDS_DATA_DIR"))]
  # A vocabulary is what it holds, not where it lies.
  asked = {
    **request.to_json(),
    "vocabulary": fingerprint.file_digest(request.vocabulary),
  }
  name = fingerprint.digest(asked, places)
  return pathlib.Path(store_dir) / "prepared" / f"{name}.json"


def dependencies(
  data_files: Iterable[pathlib.Path], folders: Iterable[pathlib.Path]
) -> dict[str, Any]:
  """Returns what a prepared mixture depends on, as it is now.

  Args:
    data_files: the files its rows were read from.
    folders: folders in which a file that appears may be a new split.
  """
  files = sorted({os.path.abspath(f) for f in data_files})
  folders = sorted({os.path.abspath(f) for f in folders})
  return {
    "versions": fingerprint.versions(),
    "code": {f: fingerprint.file_digest(f) for f in fingerprint.own_code_files()},
    "data": {f: _stamp(f) for f in files},
    "folders": {folder: sorted(os.listdir(folder)) for folder in folders},
  }


def save(
  file: pathlib.Path, mixture: PreparedMixture, depends: Mapping[str, Any]
) -> None:
  """Writes an index; it appears complete or not at all."""
  try:
    file.parent.mkdir(parents=True, exist_ok=True)
    index = {"mixture": mixture.to_json(), "depends": depends}
    text = json.dumps({"checksum": _checksum(index), "index": index})
    # A folder, since it takes a half-written file away with it.
    with tempfile.TemporaryDirectory(prefix=".", dir=file.parent) as scratch:
      (pathlib.Path(scratch) / file.name).write_text(text)
      os.replace(pathlib.Path(scratch) / file.name, file)
  except OSError as e:
    raise errors.UserError(
      f"cannot write {file}: {e.strerror or e}. Free space there, or name another place"
      " with --store_dir."
    ) from e


def load(file: pathlib.Path) -> PreparedMixture | None:
  """Returns the prepared mixture of an index, or None where it must be made anew."""
  try:
    found = json.loads(file.read_text())
    index = found["index"]
    if found["checksum"] != _checksum(index):
      return None
  except (OSError, ValueError, KeyError, TypeError):
    return None
  depends = index["depends"]
  mixture = PreparedMixture.from_json(index["mixture"])
  stores = [store for task in mixture.tasks for store in task.stores]
  try:
    unchanged = (
      depends["versions"] == fingerprint.versions()
      and all(fingerprint.file_digest(f) == d for f, d in depends["code"].items())
      and all(_stamp(f) == stamp for f, stamp in depends["data"].items())
      and all(sorted(os.listdir(d)) == names for d, names in depends["folders"].items())
      and all(os.path.isdir(store) for store in stores)
    )
  except OSError:
    return None
  return mixture if unchanged else None


def _checksum(index: Any) -> str:
  return hashlib.blake2b(json.dumps(index).encode(), digest_size=16).hexdigest()


def _stamp(file: str) -> list[int]:
  stat = os.stat(file)
  return [stat.st_size, stat.st_mtime_ns]

"""Downloads public datasets and prepares them for TFDS, where the data's way begins.

python -m t5tune.data.tfds_builders dialogsum sst5 --data_dir=DIR
"""

import json
import os
import pathlib
from collections.abc import Sequence

from t5tune import command_line
from t5tune.data import tfds_builders
from t5tune.errors import UserError, did_you_mean

# TFDS's own builder downloads nothing itself: the archive needs a 7z program.
_SAMSUM_URL = "https://arxiv.org/src/1911.12237v2/anc/corpus.7z"
_SAMSUM_FILES = ("train.json", "val.json", "test.json")


def prepare(name: str, data_dir: str | os.PathLike | None) -> str:
  """Downloads a dataset where needed, verifies it and writes it in TFDS's format.

  Args:
    name: a key of `BUILDERS`, such as `dialogsum` or `cot/aqua`.
    data_dir: folder to write under; None for TFDS's own default.

  Returns:
    One or two lines saying what is there now.

  Raises:
    UserError: a download failed or is not the published file, or the folder cannot
      be written.
  """
  # Here, so that --help and a misspelt name answer at once.
  import tensorflow_datasets as tfds

  tfds_builders.register()
  if data_dir is not None:
    data_dir = pathlib.Path(data_dir).expanduser()
  builder = tfds.builder(tfds_builders.BUILDERS[name], data_dir=data_dir)
  root = pathlib.Path(builder.data_dir_root)
  by_hand = root / "downloads" / "manual"
  if name == "samsum" and not pathlib.Path(builder.data_dir).exists():
    _require_samsum(by_hand)
  try:
    _download_and_prepare(name, builder, by_hand)
  except OSError as error:
    raise UserError(
      f"Could not prepare {name!r} under {root}: {error}. Give a folder that can be"
      " written and has room with --data_dir."
    ) from error
  counts = ", ".join(f"{s} {i.num_examples}" for s, i in builder.info.splits.items())
  said = f"{name}: {counts} rows in {builder.data_dir}"
  if list((root / name).glob("*.jsonl")):
    said += f"\n{name}: not read while JSON Lines files stand in {root / name}"
  return said


def _download_and_prepare(name: str, builder, by_hand: pathlib.Path) -> None:
  """Runs the builder and says of a failed download which files to fetch by hand."""
  import requests
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core.download import download_manager, downloader

  # TFDS's 10 retries keep a machine without a network waiting for 200 s, these for 6.
  downloader.MAX_RETRIES = 5
  config = tfds.download.DownloadConfig(try_download_gcs=False)
  try:
    builder.download_and_prepare(download_config=config)
    return
  except download_manager.NonMatchingChecksumError as error:
    cause = error
    said = (
      f"A file of {name!r} is not the one that was published. {error}\nRemove the file"
      " and run the command again."
    )
  except (requests.exceptions.RequestException, tfds.core.download.DownloadError) as e:
    cause = e
    said = f"Could not download {name!r}: {e}"
  listed = "".join(f"\n  {url}" for url in builder.urls.values())
  raise UserError(
    f"{said}\nWithout a network here, fetch these files elsewhere, put them into"
    f" {by_hand} under the names they have, and run the command again:{listed}"
  ) from cause


def _require_known(name: str) -> None:
  if name not in tfds_builders.BUILDERS:
    raise UserError(
      f"No dataset {name!r}.{did_you_mean(name, tfds_builders.BUILDERS)} There are"
      f" {', '.join(tfds_builders.BUILDERS)}."
    )


def _require_samsum(by_hand: pathlib.Path) -> None:
  """Raises a UserError unless SAMSum's own files stand where TFDS reads them."""
  for name in _SAMSUM_FILES:
    try:
      rows = json.loads((by_hand / name).read_bytes())
      good = all({"id", "dialogue", "summary"} == set(row) for row in rows)
      wrong = "" if good else "its rows are not those of SAMSum"
    except FileNotFoundError:
      wrong = "there is no such file"
    except ValueError as error:
      wrong = f"it is not JSON ({error})"
    if wrong:
      raise UserError(
        f"{by_hand / name}: {wrong}. SAMSum is fetched by hand: download {_SAMSUM_URL},"
        f" unpack it (7z x corpus.7z), put {', '.join(_SAMSUM_FILES)} into {by_hand} and"
        " run the command again."
      )


def main(argv: Sequence[str]) -> None:
  """Prepares the datasets named on the command line.

  Args:
    argv: the arguments after the command's name.

  Raises:
    UserError: an unknown flag or dataset, or as `prepare`.
  """
  parser = command_line.parser(
    "data.tfds_builders",
    "Downloads public datasets and prepares them for TFDS. There are "
    + ", ".join(tfds_builders.BUILDERS)
    + ".",
    ["python -m t5tune.data.tfds_builders dialogsum sst5 --data_dir=DIR"],
    flags=(),
  )
  parser.add_argument("names", nargs="+", metavar="NAME", help="dataset to prepare")
  parser.add_argument(
    "--data_dir",
    metavar="DIR",
    default=os.environ.get("T5TUNE_DATA_DIR"),
    help="folder to write under (default: T5TUNE_DATA_DIR, else TFDS's own default)",
  )
  args = parser.parse_args(argv)
  for name in args.names:
    _require_known(name)
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  for name in args.names:
    print(prepare(name, args.data_dir))


if __name__ == "__main__":
  command_line.main(main)

"""Where a run's initial weights and vocabulary come from (`INIT`)."""

import pathlib

from t5tune import errors

SCRATCH = "scratch"


def check(init: str) -> None:
  """Stops a run whose initial weights cannot be read.

  Args:
    init: 'scratch', a Hugging Face id or directory, or a T5X checkpoint.

  Raises:
    UserError: anything but 'scratch'.
  """
  if init != SCRATCH:
    raise errors.UserError(
      f"INIT = {init!r}: this version cannot read Hugging Face or T5X weights yet. Set"
      " INIT to 'scratch' to train from random weights (--gin.INIT=scratch)."
    )


def vocabulary_path(init: str) -> pathlib.Path:
  """Returns the vocabulary that lies beside the initial weights.

  Args:
    init: as in `check`.

  Raises:
    UserError: there is none.
  """
  path = pathlib.Path(init) / "spiece.model"
  if init != SCRATCH and path.is_file():
    return path.absolute()
  raise errors.UserError(
    f"VOCABULARY is not set, and INIT = {init!r} has no spiece.model beside its"
    " weights. Name a SentencePiece model: --gin.VOCABULARY=FILE.model, or"
    " --gin.VOCABULARY=mini.model for the small one that ships with t5tune."
  )

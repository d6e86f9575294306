"""Scores weights between two checkpoints: `python -m t5tune.interpolate BEFORE AFTER`."""

import math
from collections.abc import Sequence

from t5tune import command_line, errors

EXAMPLES = (
  "python -m t5tune.interpolate MULTITASK DIALOGSUM --gin_file=DIALOGSUM/config.gin"
  " --gin.EVAL_MIXTURE=multitask --gin.BEST_METRIC=loss --data_dir=DATA --workdir=DIR",
  "python -m t5tune.interpolate google/flan-t5-base WORKDIR --gin_file=dialogsum.gin"
  " --gin.EVAL_MIXTURE=multitask --alphas=0,0.25,0.5,0.75,1 --data_dir=DATA"
  " --workdir=DIR",
  "python -m t5tune.interpolate BEFORE AFTER/checkpoints/500 --gin_file=AFTER/config.gin"
  " --gin.EVAL_EXAMPLES=50 --data_dir=DATA --workdir=DIR",
)
_ALPHAS = ",".join(f"{k / 10:g}" for k in range(11))


def main(arguments: Sequence[str]) -> int:
  """Scores what the flags name; returns the exit status."""
  parser = command_line.parser(
    "interpolate",
    "Averages the weights before and after a training: (1 - alpha) BEFORE + alpha AFTER."
    " Scores every alpha on EVAL_SPLIT, and keeps the best by BEST_METRIC as a work"
    " directory, with its scores on TEST_SPLIT.",
    EXAMPLES,
    flags=("gin_file", "data_dir", "store_dir", "workdir"),
    required=("gin_file", "workdir"),
  )
  for name in ("before", "after"):
    parser.add_argument(
      name,
      metavar=name.upper(),
      help="a work directory or one of its checkpoints/STEP, a Hugging Face id or"
      " directory, a T5X checkpoint",
    )
  parser.add_argument(
    "--alphas",
    default=_ALPHAS,
    metavar="A,B,...",
    help="what to try, from 0 to 1 (default: %(default)s)",
  )
  flags = parser.parse_args(arguments)
  alphas = _alphas(flags.alphas)

  from t5tune import accelerators, process_places

  process_places.check_alone("interpolate")
  accelerators.set_defaults(flags.store_dir)  # before jax starts
  from t5tune import config, run
  from t5tune.evaluation import interpolation

  configuration = config.load(flags.gin_file, flags.overrides)
  settings = configuration.build(run.Run)
  interpolation.score(settings, flags.before, flags.after, alphas, configuration, flags)
  return 0


def _alphas(text: str) -> list[float]:
  try:
    alphas = sorted({float(part) for part in text.split(",")})
  except ValueError:
    alphas = [math.nan]
  if not all(0 <= alpha <= 1 for alpha in alphas):
    raise errors.UserError(
      f"--alphas={text}: give numbers from 0 (BEFORE) to 1 (AFTER) with commas between"
      " them, such as 0,0.5,1."
    )
  return alphas


if __name__ == "__main__":
  command_line.main(main)

"""Scores saved checkpoints: `python -m t5tune.eval --gin_file=... --workdir=DIR`."""

from collections.abc import Sequence

from t5tune import command_line

EXAMPLES = (
  "python -m t5tune.eval --gin_file=DIR/config.gin --workdir=DIR --data_dir=DATA",
  "python -m t5tune.eval --gin_file=dialogsum.gin --data_dir=DATA --workdir=DIR"
  " --checkpoint=best",
  "python -m t5tune.eval --gin_file=demo.gin --workdir=demo_run --checkpoint=all",
)


def main(arguments: Sequence[str]) -> int:
  """Scores the checkpoints that the flags name; returns the exit status."""
  parser = command_line.parser(
    "eval",
    "Scores saved checkpoints of a run on its test split; never trains.",
    EXAMPLES,
    required=("gin_file", "workdir"),
  )
  parser.add_argument(
    "--checkpoint",
    default="latest",
    metavar="WHICH",
    help="latest, best, all or a step (default: latest)",
  )
  flags = parser.parse_args(arguments)

  from t5tune import accelerators, processes

  accelerators.set_defaults(flags.store_dir)  # before jax starts
  return processes.together(flags, lambda: _score(flags))


def _score(flags) -> int:
  """What every process of an evaluation does."""
  from t5tune import config, run
  from t5tune.evaluation import checkpoint_scores

  settings = config.load(flags.gin_file, flags.overrides).build(run.Run)
  checkpoint_scores.score_checkpoints(settings, flags)
  return 0


if __name__ == "__main__":
  command_line.main(main)

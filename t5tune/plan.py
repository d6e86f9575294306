"""Plans a run: `python -m t5tune.plan --gin_file=dialogsum.gin --topology=v5e:4x4`.

Compiles the training step for a machine that need not be there, and says what it will
take: memory, operations, traffic, time, and what to change where it does not fit.
"""

from collections.abc import Sequence

from t5tune import command_line

EXAMPLES = (
  "python -m t5tune.plan --gin_file=dialogsum.gin --topology=v5e:4x4",
  "python -m t5tune.plan --gin_file=multitask.gin --gin_file=models/flan_t5_xl.gin"
  " --topology=v6e-64 --gin.BATCH_SIZE=256",
  "python -m t5tune.plan --gin_file=samsum.gin --topology=h100:8",
)


def main(arguments: Sequence[str]) -> int:
  """Plans a run; returns the exit status: 0 where it fits as it is, else 1."""
  parser = command_line.parser(
    "plan",
    "Tells before a run whether it fits a machine, and how long a step takes there."
    " Compiles for TPUs with libtpu (pip install 't5tune[tpu]'), which needs no TPU; all"
    " else is estimated with virtual CPU devices. Reads no data and no weights.",
    EXAMPLES,
    flags=("gin_file",),
    required=("gin_file",),
  )
  parser.add_argument(
    "--topology",
    required=True,
    metavar="MACHINE",
    help="v5e, v6e or v5p with the shape or the size of a slice (v5e:4x4, v6e-64;"
    " v5p-8 has 8 cores, 4 chips); a100, h100, h200 or l4 with a number (h100:8); cpu",
  )
  parser.add_argument(
    "--no_ladder",
    action="store_true",
    help="where the run does not fit, do not look for settings that do",
  )
  flags = parser.parse_args(arguments)

  from t5tune import config, run
  from t5tune.planning import chips, devices, estimate, ladder, report

  topology = chips.parse(flags.topology)
  found, real = devices.of(topology)
  configuration = config.load(flags.gin_file, flags.overrides)
  settings = estimate.prepare(configuration.build(run.Run), topology)
  _print(report.head(topology, real))
  planned = estimate.of_run(settings, topology, found)
  _print(report.lines(planned))
  if planned.memory.fits:
    return 0
  if flags.no_ladder:
    return 1
  _print(["", "What to try, from the cheapest (add to the command):"])
  climbed = ladder.climb(
    planned, found, lambda rung, result: _print([report.rung(rung, result)])
  )
  if climbed is None:
    _print(["Nothing of this fits: take a larger machine, or a smaller model."])
  else:
    _print(["", f"With {' '.join(climbed[0].flags)}:", *report.lines(climbed[1])])
  return 1


def _print(lines: Sequence[str]) -> None:
  for line in lines:
    print(line, flush=True)


if __name__ == "__main__":
  command_line.main(main)

"""Builds token stores ahead of time: `python -m t5tune.prepare --gin_file=...`."""

from collections.abc import Sequence

from t5tune import command_line, errors

EXAMPLES = (
  "python -m t5tune.prepare --gin_file=demo.gin",
  "python -m t5tune.prepare --gin_file=dialogsum.gin --data_dir=DIR"
  " --gin.VOCABULARY=spiece.model",
  "python -m t5tune.prepare --gin_file=multitask.gin --data_dir=DIR --store_dir=DIR",
)


def main(arguments: Sequence[str]) -> int:
  """Builds what the run that the flags describe would lack; returns the exit status."""
  parser = command_line.parser(
    "prepare",
    "Writes the tokens that a training run with the same flags reads, so that it"
    " starts at once.",
    EXAMPLES,
    flags=("gin_file", "data_dir", "store_dir"),
    required=("gin_file",),
  )
  parser.add_argument(
    "--workers",
    type=int,
    metavar="N",
    help="most processes that write stores (default: one a core)",
  )
  flags = parser.parse_args(arguments)
  if flags.workers is not None and flags.workers < 1:
    raise errors.UserError(f"--workers={flags.workers}: it must be at least 1.")

  from t5tune import config, run
  from t5tune.data import build, token_store
  from t5tune.evaluation import scored_mixture

  settings = config.load(flags.gin_file, flags.overrides).build(run.Run)
  vocabulary = settings.vocabulary_path()
  request = settings.request(flags.data_dir, vocabulary, train=True)

  def scored_of(mixture):
    asked = (settings.eval_mixture, request, mixture, flags.store_dir, flags.workers)
    return scored_mixture.prepare(*asked).mixture

  mixture = build.ensure(request, flags.store_dir, flags.workers)
  scored = scored_of(mixture)
  if damaged := [*build.remove_damaged(mixture), *build.remove_damaged(scored)]:
    for problem in damaged:
      print(f"damaged, built anew: {problem}")
    mixture = build.ensure(request, flags.store_dir, flags.workers)
    scored = scored_of(mixture)
  settings.check_names(scored)
  also = [task for task in scored.tasks if task not in mixture.tasks]
  for task in (*mixture.tasks, *also):
    print(f"{task.name}: {len(task.passes)} pass(es), splits {', '.join(task.splits)}")
    for path in (*task.passes[:1], *task.splits.values()):
      told = token_store.TokenStore(path).manifest
      if told.get("skipped"):
        print(f"  {told['split']}: skipped {told['skipped']:,} bad rows, such as")
        print("".join(f"    {why}\n" for why in told["skip_report"]), end="")
  print(f"stores: {flags.store_dir / 'stores'}")
  return 0


if __name__ == "__main__":
  command_line.main(main)

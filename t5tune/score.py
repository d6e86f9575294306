"""Scores summaries on disk: `python -m t5tune.score FILE [FILE ...]`."""

import dataclasses
import pathlib
from collections.abc import Sequence

from t5tune import command_line, errors

EXAMPLES = (
  "python -m t5tune.score WORKDIR/predictions/dialogsum-test-0.jsonl"
  " WORKDIR/predictions/dialogsum-test-3000.jsonl",
  "python -m t5tune.score output.txt --references=dialogsum/validation.jsonl"
  " --reference_fields=summary1,summary2,summary3 --rouge=dialogsum_paper",
  "python -m t5tune.score predictions.jsonl --rouge=t5x,hf --each_reference",
)


def main(arguments: Sequence[str]) -> int:
  """Scores what the flags name; returns the exit status."""
  parser = command_line.parser(
    "score",
    "Scores files of summaries with ROUGE under named profiles, beside humans and"
    " trivial systems; of several files, tells how far the others lie above the first.",
    EXAMPLES,
    flags=(),
  )
  parser.add_argument(
    "files",
    nargs="+",
    type=pathlib.Path,
    metavar="FILE",
    help="JSON Lines with a field `prediction`, such as WORKDIR/predictions/*.jsonl;"
    " or a .txt with a prediction a line",
  )
  parser.add_argument(
    "--references",
    type=pathlib.Path,
    metavar="ROWS",
    help="JSON Lines that hold the references, in the same order (default: FILE)",
  )
  parser.add_argument(
    "--reference_fields",
    default="references",
    metavar="NAMES",
    help="their fields, each a text or a list of texts (default: %(default)s)",
  )
  parser.add_argument(
    "--source_field",
    metavar="NAME",
    help="the field with what is summarised (default: dialogue, else input)",
  )
  parser.add_argument(
    "--rouge",
    default="default",
    metavar="PROFILES",
    help="default, t5x, flan, hf, lab, dialogsum_paper, samsum_paper, or all",
  )
  parser.add_argument(
    "--over_references",
    choices=("mean", "max", "first"),
    help="what counts of several references, in place of what the profile says",
  )
  parser.add_argument(
    "--each_reference",
    action="store_true",
    help="also score against each reference on its own",
  )
  _score(parser.parse_args(arguments))
  return 0


def _score(flags) -> None:
  from t5tune.evaluation import prediction_files, rouge, summary_table
  from t5tune.training import run_log

  wanted = flags.rouge.split(",")
  profiles = [rouge.profile_of(n) for n in wanted if n != "all"]
  profiles = list(rouge.PROFILES.values()) if "all" in wanted else profiles
  if flags.over_references:
    profiles = [
      dataclasses.replace(p, references=flags.over_references) for p in profiles
    ]
  fields = flags.reference_fields.split(",")
  files = [
    prediction_files.read(path, flags.references, fields, flags.source_field)
    for path in flags.files
  ]
  for file in files[1:]:
    prediction_files.check_same_rows(files[0], file)
  if flags.each_reference and len({len(row) for row in files[0].references}) > 1:
    raise errors.UserError(
      "--each_reference: the rows have different numbers of references."
    )
  console = run_log.console()
  for profile in profiles:
    systems = summary_table.systems(files, profile)
    summary_table.print_systems(console, systems, profile)
    if len(files) > 1:
      summary_table.print_differences(console, systems[: len(files)], profile)
    if flags.each_reference:
      summary_table.print_references(console, files, profile)


if __name__ == "__main__":
  command_line.main(main)

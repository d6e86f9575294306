"""Shows what runs learnt and forgot: `python -m t5tune.report WORKDIR [WORKDIR ...]`."""

import pathlib
from collections.abc import Sequence

from t5tune import command_line, errors

EXAMPLES = (
  "python -m t5tune.report WORKDIR",
  "python -m t5tune.report MULTITASK DIALOGSUM --html=forgetting.html",
  "python -m t5tune.report WORKDIR --markdown=-",
)


def main(arguments: Sequence[str]) -> int:
  """Writes what the flags name; returns the exit status."""
  parser = command_line.parser(
    "report",
    "Writes what runs gained and forgot as one page: scores before and after with their"
    " intervals, tasks by checkpoints, curves, and the answers beside the humans'. Name"
    " runs that follow each other in their order.",
    EXAMPLES,
    flags=(),
  )
  parser.add_argument(
    "workdirs", nargs="+", type=pathlib.Path, metavar="WORKDIR", help="a run's folder"
  )
  parser.add_argument(
    "--html",
    type=pathlib.Path,
    metavar="FILE",
    help="the page (default: report.html in the last WORKDIR)",
  )
  parser.add_argument(
    "--markdown",
    metavar="FILE",
    help="also write the tables as Markdown; - for standard output",
  )
  flags = parser.parse_args(arguments)

  if flags.html is not None:
    flags.html = flags.html.expanduser()
    if flags.html.suffix not in (".html", ".htm"):
      raise errors.UserError(f"--html={flags.html}: name a file that ends in .html.")
  if flags.markdown not in (None, "-"):
    flags.markdown = pathlib.Path(flags.markdown).expanduser()
    if flags.markdown.suffix != ".md":
      raise errors.UserError(
        f"--markdown={flags.markdown}: name a file that ends in .md."
      )

  from t5tune.reporting import forgetting, page, records

  runs = records.read(flags.workdirs)
  file = flags.html or runs[-1].path / "report.html"
  page.write(file, page.html(runs))
  if flags.markdown == "-":
    print(page.markdown(runs))
    return 0
  for said in forgetting.sentences(runs):
    print(said)
  print(f"page: {file}")
  if flags.markdown:
    page.write(flags.markdown, page.markdown(runs))
    print(f"Markdown: {flags.markdown}")
  return 0


if __name__ == "__main__":
  command_line.main(main)

"""Compares ways to learn a domain last: `python -m t5tune.study --domain=dialogsum ...`.

Every run of it is a command of t5tune of its own, printed as it is begun.
"""

import json
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from t5tune import command_line, errors

EXAMPLES = (
  "python -m t5tune.study --gin_file=study.gin --domain=dialogsum --data_dir=DIR"
  " --workdir=DIR",
  "python -m t5tune.study --gin_file=demo_study.gin --domain=demo_dialogue --workdir=DIR",
)


def main(arguments: Sequence[str]) -> int:
  """Runs what of the study is not done yet; returns the exit status."""
  flags = _flags(arguments)
  from t5tune.evaluation import results
  from t5tune.reporting import page, records, study_plan, study_plots, study_scores

  study = _study(flags)
  commands = study_plan.commands(study, flags.workdir, flags)
  _begin(flags.workdir, [command.line[2:] for command in commands])
  for number, command in enumerate(commands, start=1):
    if command.is_done:
      continue
    print(f"[{number}/{len(commands)}] seed {command.seed}, {command.way}", flush=True)
    print(f"$ python {shlex.join(command.line[1:])}", flush=True)
    began = time.monotonic()
    if command.scored_before:
      results.adopt(*command.scored_before, command.workdir)
    if status := _run(command.line):
      return status
    minutes = (time.monotonic() - began) / 60
    print(f"[{number}/{len(commands)}] took {minutes:.1f} minutes", flush=True)
  found = study_scores.read(study, flags.workdir)
  text = study_scores.markdown(found)
  page.write(flags.workdir / "study.md", text)
  page.write(flags.workdir / "study.svg", study_plots.balance(found))
  first = [flags.workdir / "seed0" / way for way in study_plan.WAYS]
  page.write(flags.workdir / "report.html", page.html(records.read(first)))
  print(text)
  for name in ("study.md", "study.svg", "report.html"):
    print(f"{flags.workdir / name}")
  return 0


def _flags(arguments: Sequence[str]):
  parser = command_line.parser(
    "study",
    "Learns a domain in different ways at an equal number of updates, and shows what"
    " each way learns of it and forgets of the other tasks. Started again, it goes on.",
    EXAMPLES,
    flags=("gin_file", "data_dir", "store_dir", "workdir"),
    required=("gin_file", "workdir"),
  )
  parser.add_argument(
    "--domain", required=True, metavar="TASK", help="the task of MIXTURE learnt last"
  )
  parser.add_argument(
    "--domain_steps",
    type=int,
    metavar="N",
    help="updates for the domain where it comes last (default: 3 in 10 of TRAIN_STEPS)",
  )
  parser.add_argument(
    "--domain_gin_file",
    metavar="FILE",
    help="a recipe over the others for where the domain comes last, such as a lower rate",
  )
  parser.add_argument(
    "--lora_gin_file",
    default="runs/lora.gin",
    metavar="FILE",
    help="a recipe that sets LoRA (default: %(default)s)",
  )
  parser.add_argument(
    "--seeds",
    type=int,
    default=3,
    metavar="N",
    help="repetitions of sequential, replay and multitask (default: %(default)s)",
  )
  parser.add_argument(
    "--other_seeds",
    type=int,
    default=1,
    metavar="N",
    help="repetitions of single, LoRA and interpolation (default: %(default)s)",
  )
  return parser.parse_args(arguments)


def _study(flags):
  """Returns what the flags ask for, once it is known that it can be done."""
  from t5tune import config, run
  from t5tune.data import definitions
  from t5tune.reporting import study_plan

  for name, _ in flags.overrides:
    if name in ("EVAL_MIXTURE", "SEED", "BEST_METRIC"):
      raise errors.UserError(f"--gin.{name}: the study sets it for each of its runs.")
  settings = config.load(flags.gin_file, flags.overrides).build(run.Run)
  files = [flags.domain_gin_file, flags.lora_gin_file]
  further = [*flags.gin_file, *(file for file in files if file)]
  if config.load(further, flags.overrides).build(run.Run).model.lora is None:
    raise errors.UserError(
      f"--lora_gin_file={flags.lora_gin_file} leaves LORA_RANK at 0."
    )
  if settings.train_steps is None:
    raise errors.UserError(
      "TRAIN_EPOCHS: a study counts its budget in updates. Set TRAIN_STEPS."
    )
  request = settings.request(flags.data_dir, pathlib.Path(), train=False)
  names = [task.name for task, _ in definitions.load(request)]
  if flags.domain not in names:
    raise errors.UserError(
      f"--domain={flags.domain} is no task of MIXTURE = {settings.mixture!r}."
      f"{errors.did_you_mean(flags.domain, names)} There is: {', '.join(names)}."
    )
  others = tuple(name for name in names if name != flags.domain)
  _check_mixtures(settings.mixture, flags.domain, others)
  default = max(1, round(0.3 * settings.train_steps))
  return study_plan.Study(
    mixture=settings.mixture,
    domain=flags.domain,
    others=others,
    init=settings.init,
    steps=settings.train_steps,
    domain_steps=flags.domain_steps if flags.domain_steps is not None else default,
    seeds=flags.seeds,
    other_seeds=flags.other_seeds,
  )


def _check_mixtures(mixture: str, domain: str, others: tuple[str, ...]) -> None:
  """Checks that the mixtures of a study are registered, and are of this domain."""
  from t5tune.data import definitions

  known = definitions.import_seqio().MixtureRegistry
  for name, wanted in (
    (f"{mixture}_before", set(others)),
    (f"{mixture}_replay", {domain, *others}),
  ):
    tasks = {t.name for t in known.get(name).tasks} if name in known.names() else None
    if tasks != wanted:
      what = "is not registered" if tasks is None else f"has {', '.join(sorted(tasks))}"
      raise errors.UserError(
        f"a study of {mixture!r} with --domain={domain} needs a mixture {name!r} of"
        f" {', '.join(sorted(wanted))}; it {what}. Register all of them with"
        f" t5tune.tasks.mixtures.add_study('NAME', {domain!r}, [...]) in a module of"
        " TASK_MODULES, and set MIXTURE = 'NAME'."
      )


def _begin(folder: pathlib.Path, lines: list[list[str]]) -> None:
  """Records the commands of a study, or checks that they are those it was begun with."""
  from t5tune.training import workdir

  file = folder / "study.json"
  if file.is_file():
    try:
      before = json.loads(file.read_text())
    except ValueError as e:
      raise errors.UserError(f"{file} is damaged: {e}. Remove it to go on.") from e
    for line in before:
      if line not in lines:
        raise errors.UserError(
          f"--workdir={folder} holds a study with other settings, such as: python -m"
          f" {shlex.join(line)}. Name a new folder."
        )
  workdir.write_atomically(file, json.dumps(lines, indent=1) + "\n")


def _run(line: list[str]) -> int:
  """Runs a command and hands it this process's signals; returns its exit status."""
  child = subprocess.Popen(line, start_new_session=True)

  def hand_on(number, frame):
    child.send_signal(number)

  before = {n: signal.signal(n, hand_on) for n in (signal.SIGINT, signal.SIGTERM)}
  try:
    status = child.wait()
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
  if status < 0:
    print(f"killed by signal {-status}; start again to go on", file=sys.stderr)
    return 128 - status
  return status


if __name__ == "__main__":
  command_line.main(main)

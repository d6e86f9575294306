"""Compares ways to learn a domain last: `python -m t5tune.study --domain=dialogsum ...`.

Every run of it is a command of t5tune of its own, printed as it is begun.
"""

import contextlib
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
  "python -m t5tune.study --gin_file=study.gin --lora_gin_file=runs/study_lora.gin"
  " --domain=dialogsum --data_dir=DIR --workdir=DIR",
  "python -m t5tune.study --gin_file=multitask.gin --gin.MIXTURE=study"
  " --domain=dialogsum --domain_steps=1000 --data_dir=DIR --workdir=DIR",
  "python -m t5tune.study --gin_file=demo_study.gin --domain=demo_dialogue --workdir=DIR",
)


def main(arguments: Sequence[str]) -> int:
  """Runs what of the study is not done yet; returns the exit status."""
  flags = _flags(arguments)
  from t5tune import process_places
  from t5tune.evaluation import results
  from t5tune.reporting import study_plan

  process_places.check_alone("study")
  study = _study(flags)
  commands = study_plan.commands(study, flags.workdir, flags)
  _begin(flags.workdir, commands)
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
  _show(study, flags.workdir)
  return 0


def _show(study, folder: pathlib.Path) -> None:
  """Writes and prints what was found."""
  from t5tune.reporting import page, records, study_plan, study_plots, study_scores

  found = study_scores.read(study, folder)
  first = records.read([folder / "seed0" / way for way in study_plan.WAYS])
  text = study_scores.markdown(found)
  page.write(folder / "study.md", text)
  page.write(folder / "study.svg", study_plots.balance(found))
  page.write(folder / "report.html", page.html(first, siblings=True))
  print(text)
  for name in ("study.md", "study.svg", "report.html"):
    print(folder / name)


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

  settings = config.load(flags.gin_file, flags.overrides).build(run.Run)
  if settings.files is not None:
    raise errors.UserError(
      "a study takes registered tasks: put yours in a module of TASK_MODULES, as"
      " docs/tasks.md shows, and not in FILES."
    )
  if settings.train_steps is None:
    raise errors.UserError(
      "TRAIN_EPOCHS: a study counts its budget in updates. Set TRAIN_STEPS."
    )
  request = settings.request(flags.data_dir, pathlib.Path(), train=False)
  tasks = {task.name: task for task, _ in definitions.load(request)}
  if flags.domain not in tasks:
    raise errors.UserError(
      f"--domain={flags.domain} is no task of MIXTURE = {settings.mixture!r}."
      f"{errors.did_you_mean(flags.domain, tasks)} There is: {', '.join(tasks)}."
    )
  for name, task in tasks.items():
    if settings.eval_split not in task.splits:
      raise errors.UserError(
        f"EVAL_SPLIT = {settings.eval_split!r}: task {name!r} has none, and a study"
        " chooses the weights between before and after by it. Set EVAL_SPLIT."
      )
  others = tuple(name for name in tasks if name != flags.domain)
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

  if not others:
    raise errors.UserError(
      f"MIXTURE = {mixture!r} has no task but --domain={domain}: there is nothing to"
      " forget. Name a mixture of several tasks."
    )
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


def _begin(folder: pathlib.Path, commands) -> None:
  """Checks the settings of every command before the first, and keeps them.

  Raises:
    UserError: a setting cannot be, differs where it must not, or is another than the
      study was begun with.
  """
  from t5tune import config, run
  from t5tune.evaluation import run_scores
  from t5tune.training import workdir

  texts, scored = {}, {}
  for command in commands:
    made = config.load(command.gin_files, command.overrides)
    settings = made.build(run.Run)
    texts[command.name] = made.text
    scored[command.name] = run_scores.scoring_settings(settings)
    if settings.early_stopping is not None:
      raise errors.UserError(
        f"EARLY_STOPPING = {settings.early_stopping}: all ways of a study have the same"
        " number of updates. Set it to None."
      )
    if command.way == "lora" and settings.model.lora is None:
      raise errors.UserError(
        f"--lora_gin_file={command.gin_files[-1]}: LORA_RANK is 0."
      )
  first = next(iter(scored))
  for name, how in scored.items():
    for setting, value in how.items():
      if value != scored[first][setting]:
        raise errors.UserError(
          f"{name} would be scored with {setting} = {value}, {first} with"
          f" {scored[first][setting]}: set it in no recipe of one way alone."
        )
  file = folder / "study.json"
  if file.is_file():
    try:
      before = {str(k): str(v) for k, v in json.loads(file.read_text()).items()}
    except (ValueError, AttributeError) as e:
      raise errors.UserError(f"{file} is damaged: {e}. Remove it to go on.") from e
    for name in before.keys() & texts.keys():
      if changed := workdir.differing_bindings(before[name], texts[name]):
        raise errors.UserError(
          f"--workdir={folder} holds a study that was begun with other settings, of"
          f" {name}: {changed[0]}. Name a new folder."
        )
    texts = {**before, **texts}
  workdir.write_atomically(file, json.dumps(texts, indent=1) + "\n")


def _run(line: list[str]) -> int:
  """Runs a command and hands it this process's signals; returns its exit status."""
  heard = []
  signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
  before = {n: signal.signal(n, lambda n, _: heard.append(n)) for n in signals}
  try:
    # In a session of its own, so that a Ctrl-C reaches it once: from here.
    child, sent = subprocess.Popen(line, start_new_session=True), 0
    while (status := child.poll()) is None:
      for number in heard[sent:]:
        child.send_signal(number)
        sent += 1
      with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=0.2)
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
  if status < 0:
    print(f"killed by signal {-status}; start again to go on", file=sys.stderr)
    return 128 - status
  return status or (command_line.SAVED_NOT_FINISHED if heard else 0)


if __name__ == "__main__":
  command_line.main(main)

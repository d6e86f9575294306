"""Ways to learn a domain after other tasks, at an equal budget: which runs these take.

before (the other tasks) ─┬─ sequential: the domain alone
                          ├─ replay: the domain, with a share of the other tasks
                          ├─ lora: the domain alone, beside frozen weights
                          └─ interpolated: between before and sequential
multitask: all tasks at once      single: the domain alone, from the start
"""

import dataclasses
import pathlib
import sys
from typing import Any

from t5tune import errors
from t5tune.evaluation import results

BEFORE = "before"
WAYS = (BEFORE, "single", "sequential", "replay", "multitask", "lora", "interpolated")
_NOT_CENTRAL = ("single", "lora", "interpolated")


@dataclasses.dataclass(frozen=True)
class Study:
  """What is compared, on what.

  Attributes:
    mixture: the mixture of all tasks; `<mixture>_before` and `<mixture>_replay` go with
      it, as `t5tune.tasks.mixtures.add_study` registers them.
    domain: the task that is learnt last.
    others: the other tasks.
    init: the weights that every way starts from.
    steps: updates of every way in all.
    domain_steps: how many of them are the domain's, after the others.
    seeds: how often the central ways are repeated.
    other_seeds: how often the rest.
  """

  mixture: str
  domain: str
  others: tuple[str, ...]
  init: str
  steps: int
  domain_steps: int
  seeds: int
  other_seeds: int

  def __post_init__(self):
    if not 0 < self.domain_steps < self.steps:
      raise errors.UserError(
        f"--domain_steps={self.domain_steps}: of {self.steps} updates in all"
        " (TRAIN_STEPS), give the number that the domain gets after the other tasks, at"
        f" least 1 and below {self.steps}."
      )
    for flag in ("seeds", "other_seeds"):
      if getattr(self, flag) < 1:
        raise errors.UserError(
          f"--{flag}={getattr(self, flag)}: it must be at least 1."
        )

  def seeds_of(self, way: str) -> range:
    """Returns the seeds of a way."""
    few = min(self.other_seeds, self.seeds)
    return range(few if way in _NOT_CENTRAL else self.seeds)


@dataclasses.dataclass(frozen=True)
class Command:
  """One command of a study.

  Attributes:
    way: what it belongs to.
    seed: its seed.
    workdir: what it leaves.
    module: the command's module.
    positional: its arguments that are no flags.
    gin_files: its recipes.
    overrides: (name, text) of its `--gin.name=text`.
    places: its other flags.
    steps: updates it makes, 0 for one that does not train.
    scored_before: work directory and step of a checkpoint that is what it starts from,
      scored as it would be; None for another start.
  """

  way: str
  seed: int
  workdir: pathlib.Path
  module: str
  positional: list[str]
  gin_files: list[str]
  overrides: list[tuple[str, str]]
  places: list[str]
  steps: int
  scored_before: tuple[pathlib.Path, int] | None = None

  @property
  def name(self) -> str:
    return f"seed{self.seed}/{self.way}"

  @property
  def line(self) -> list[str]:
    """The command as it is run."""
    flags = [f"--gin_file={file}" for file in self.gin_files]
    flags += [f"--gin.{name}={value}" for name, value in self.overrides]
    module = f"t5tune.{self.module}"
    return [sys.executable, "-m", module, *self.positional, *flags, *self.places]

  @property
  def is_done(self) -> bool:
    """Whether its last evaluation is there."""
    if self.module == "interpolate":  # the last that it writes
      return (self.workdir / "run.json").is_file()
    return results.scores_file(self.workdir, "test", self.steps).is_file()


def commands(study: Study, folder: pathlib.Path, flags: Any) -> list[Command]:
  """Returns the commands of a study, in an order in which they can be run.

  Args:
    study: what is compared.
    folder: where all work directories go.
    flags: `gin_file`, `overrides`, `data_dir`, `store_dir`, `domain_gin_file` and
      `lora_gin_file`.
  """
  folder = folder.absolute()
  rest, replayed = f"{study.mixture}_before", f"{study.mixture}_replay"
  head, tail = study.steps - study.domain_steps, study.domain_steps
  later = [flags.domain_gin_file] if flags.domain_gin_file else []
  places = [f"--data_dir={flags.data_dir}"] if flags.data_dir else []
  places += [f"--store_dir={flags.store_dir}"]
  found = []
  for seed in range(study.seeds):
    place = folder / f"seed{seed}"
    before = str(place / BEFORE)
    # Mixture, updates, initial weights and further recipes of each way.
    table = {
      BEFORE: (rest, head, study.init, []),
      "single": (study.domain, study.steps, study.init, []),
      "sequential": (study.domain, tail, before, later),
      "replay": (replayed, tail, before, later),
      "multitask": (study.mixture, study.steps, study.init, []),
      "lora": (study.domain, tail, before, [*later, flags.lora_gin_file]),
      "interpolated": (study.domain, tail, before, []),
    }
    for way, (mixture, length, init, further) in table.items():
      if seed not in study.seeds_of(way):
        continue
      scored = (place / BEFORE, head) if init == before else None
      bindings = {
        **dict(flags.overrides),  # MIXTURE, say, is the study's
        "MIXTURE": repr(mixture),
        "EVAL_MIXTURE": repr(study.mixture),
        "TRAIN_STEPS": str(length),
        "INIT": repr(init),
        "SEED": str(seed),
        # Random weights have nothing to lose, and answer at length.
        "run.Run.eval_before": str(scored is None and init != "scratch"),
      }
      averages = way == "interpolated"
      if averages:
        bindings["BEST_METRIC"] = repr(balanced(study))
      found.append(
        Command(
          way=way,
          seed=seed,
          workdir=place / way,
          module="interpolate" if averages else "train",
          positional=[before, str(place / "sequential")] if averages else [],
          gin_files=[*flags.gin_file, *further],
          overrides=list(bindings.items()),
          places=[*places, f"--workdir={place / way}"],
          steps=0 if averages else length,
          scored_before=scored,
        )
      )
  return found


def balanced(study: Study) -> dict[str, float]:
  """Returns a BEST_METRIC: half the domain's loss, half the mean of the others'."""
  weights = {f"{task}/loss": round(0.5 / len(study.others), 6) for task in study.others}
  return {f"{study.domain}/loss": 0.5, **weights}

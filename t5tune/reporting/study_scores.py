"""What a study found: the domain against the other tasks, for every way and seed."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from t5tune import errors
from t5tune.evaluation import checkpoint_choice, interpolation
from t5tune.reporting import forgetting, records, study_plan

PAIRS = (
  *(("replay", "sequential"), ("multitask", "sequential"), ("replay", "multitask")),
  *(("lora", "sequential"), ("interpolated", "sequential")),
)


@dataclasses.dataclass(frozen=True)
class Balance:
  """An evaluation on both sides.

  Attributes:
    domain_loss: loss of a target token of the domain, in nats.
    domain_score: the domain's headline score.
    others_loss: mean of the other tasks' losses.
    others_score: mean of their headline scores, of those that are better when higher.
    tasks: task -> (headline score, loss).
  """

  domain_loss: float
  domain_score: float
  others_loss: float
  others_score: float
  tasks: dict[str, tuple[float, float]]


def balance(tasks: Mapping[str, Mapping[str, Any]], domain: str) -> Balance:
  """Returns both sides of an evaluation.

  Args:
    tasks: task -> summary, as `evaluator.TaskResult.summary` makes it.
    domain: the task that is the domain.
  """
  both = {t: (next(iter(s["scores"].values())), s["loss"]) for t, s in tasks.items()}
  others = {task: value for task, value in both.items() if task != domain}
  metrics = {task: next(iter(tasks[task]["scores"])) for task in others}
  scores = [v[0] for t, v in others.items() if checkpoint_choice.sign(metrics[t]) > 0]
  return Balance(
    domain_loss=both[domain][1],
    domain_score=both[domain][0],
    others_loss=float(np.mean([loss for _, loss in others.values()])),
    others_score=float(np.mean(scores)) if scores else math.nan,
    tasks=both,
  )


@dataclasses.dataclass(frozen=True)
class Found:
  """What a study found.

  Attributes:
    domain: the task that was learnt last.
    metrics: task -> its headline metric, the domain first.
    rows: task -> (rows scored, their split), of the final scores.
    ways: way -> what each of its seeds came to, in its final scores.
    alphas: seed -> [(alpha, what it came to on the validation split)].
    chosen: seed -> the alpha chosen.
    rouge: fingerprint of the ROUGE profile.
  """

  domain: str
  metrics: dict[str, str]
  rows: dict[str, tuple[int, str]]
  ways: dict[str, list[Balance]]
  alphas: dict[int, list[tuple[float, Balance]]]
  chosen: dict[int, float]
  rouge: str


def read(study: study_plan.Study, folder: pathlib.Path) -> Found:
  """Reads what the commands of a study left.

  Args:
    study: what was compared.
    folder: where the work directories are.

  Raises:
    UserError: one is missing or damaged.
  """
  ways, alphas, chosen = {}, {}, {}
  for way in study_plan.WAYS:
    places = [folder / f"seed{seed}" / way for seed in study.seeds_of(way)]
    found = records.read(places)
    ways[way] = [balance(r.evaluations[-1].tasks, study.domain) for r in found]
    first = found[0].evaluations[-1]
  for seed in study.seeds_of("interpolated"):
    file = folder / f"seed{seed}" / "interpolated" / interpolation.FILE
    try:
      rows = json.loads(file.read_text())["alphas"]
      alphas[seed] = [
        (row["alpha"], balance({t["task"]: t for t in row["tasks"]}, study.domain))
        for row in rows
      ]
      chosen[seed] = interpolation.best_alpha(rows)
    except (OSError, ValueError, KeyError, TypeError) as e:
      folder = file.parent
      raise errors.UserError(
        f"{file} is damaged ({e!r}). Remove {folder} and start again."
      ) from e
  metrics = {task: next(iter(s["scores"])) for task, s in first.tasks.items()}
  ordered = {study.domain: metrics[study.domain], **metrics}
  rows = {task: (s["rows"], s["split"]) for task, s in first.tasks.items()}
  return Found(study.domain, ordered, rows, ways, alphas, chosen, first.rouge)


def differences(
  found: Found, way: str, other: str
) -> list[tuple[float, float, float, float]]:
  """Returns by how much one way did better than another, seed by seed.

  Returns:
    For each seed that both have: domain's loss, domain's score, the others' loss, the
    others' score; positive is better.
  """
  sign = forgetting.gain(found.metrics[found.domain], 1.0, 0.0)
  return [
    (
      b.domain_loss - a.domain_loss,
      sign * (a.domain_score - b.domain_score),
      b.others_loss - a.others_loss,
      a.others_score - b.others_score,
    )
    for a, b in zip(found.ways[way], found.ways[other], strict=False)
  ]


def markdown(found: Found) -> str:
  """Returns the tables of a study."""
  domain, metric = found.domain, found.metrics[found.domain]
  count = len(found.metrics) - 1
  lines = [
    *_table(
      [
        *("way", "seeds", f"{domain} loss", f"{domain} {metric}"),
        *(f"loss elsewhere (mean of {count})", f"score elsewhere (mean of {count})"),
      ],
      [
        [way, str(len(made)), *_four(made, found.ways[study_plan.BEFORE])]
        for way, made in found.ways.items()
      ],
    ),
    "In brackets the difference from `before` of the same seeds; ± is the standard"
    " deviation over seeds, which score the same rows.",
    "",
    "Better by, seed by seed (mean; positive: the first is better):",
    "",
    *_table(
      [
        "ways",
        f"{domain} loss",
        f"{domain} {metric}",
        "loss elsewhere",
        "score elsewhere",
      ],
      [_pair(found, *pair) for pair in PAIRS],
    ),
    "Every task, mean over the seeds that a way has: headline score, loss.",
    "",
    *_table(
      ["task", "rows", "metric", *found.ways],
      [
        [
          *(task, " ".join(map(str, found.rows[task])), name),
          *(_task(made, task) for made in found.ways.values()),
        ]
        for task, name in found.metrics.items()
      ],
    ),
  ]
  for seed, rows in found.alphas.items():
    lines += [
      f"Weights between `before` (0) and `sequential` (1), seed {seed}, on the validation"
      f" split; chosen: {found.chosen[seed]:g}.",
      "",
      *_table(
        [
          "alpha",
          f"{domain} loss",
          f"{domain} {metric}",
          "loss elsewhere",
          "score elsewhere",
        ],
        [
          [
            *(f"{alpha:g}", f"{b.domain_loss:.3f}", f"{b.domain_score:.2f}"),
            *(f"{b.others_loss:.3f}", f"{b.others_score:.2f}"),
          ]
          for alpha, b in rows
        ],
      ),
    ]
  lines += [f"ROUGE profile: `{found.rouge}`", ""]
  return "\n".join(lines)


def _four(made: Sequence[Balance], before: Sequence[Balance]) -> list[str]:
  cells = []
  for name, digits in (
    *(("domain_loss", 3), ("domain_score", 2)),
    *(("others_loss", 3), ("others_score", 2)),
  ):
    values = [getattr(b, name) for b in made]
    starts = [getattr(b, name) for b in before[: len(made)]]
    text = f"{np.mean(values):.{digits}f}"
    if len(values) > 1:
      text += f" ± {np.std(values, ddof=1):.{digits}f}"
    change = np.subtract(values, starts).mean()
    cells.append(text if made is before else f"{text} ({_signed(change, digits)})")
  return cells


def _pair(found: Found, way: str, other: str) -> list[str]:
  columns = zip(*differences(found, way, other), strict=True)
  cells = []
  for values, digits in zip(columns, (3, 2, 3, 2), strict=True):
    each = ", ".join(_signed(v, digits) for v in values)
    cells.append(f"{each} ({_signed(float(np.mean(values)), digits)})")
  return [f"{way} over {other}", *cells]


def _task(made: Sequence[Balance], task: str) -> str:
  score, loss = np.mean([b.tasks[task] for b in made], axis=0)
  return f"{score:.2f}, {loss:.3f}"


def _signed(value: float, digits: int) -> str:
  return f"{round(float(value), digits) + 0.0:+.{digits}f}".replace("-", "−")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
  line = lambda cells: f"| {' | '.join(cells)} |"  # noqa: E731
  aligned = ["---", *["---:"] * (len(heads) - 1)]
  return [line(heads), line(aligned), *map(line, rows), ""]

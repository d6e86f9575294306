"""Scores weights between two checkpoints, and keeps the best of them.

before, after → weights at each alpha → scores on EVAL_SPLIT → the best, on TEST_SPLIT
"""

import dataclasses
import json
import math
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from t5tune import errors, partitioning
from t5tune.data import build, vocabularies
from t5tune.evaluation import (
  evaluator,
  results,
  rouge,
  run_scores,
  scored_mixture,
  tables,
)
from t5tune.models import t5
from t5tune.training import run_log
from t5tune.training import workdir as run_directory
from t5tune.training.train_state import Model
from t5tune.weights import interpolation, pretrained, weights, workdirs

FILE = "interpolation.json"


def score(
  run: Any,
  before: str,
  after: str,
  alphas: Sequence[float],
  configuration: Any,
  flags: Any,
) -> None:
  """Scores every alpha, and makes a work directory of the best.

  The work directory's step 0 is `before`, its last step the best weights: `eval`,
  `report`, `infer`, `convert` and INIT take it as one that training left. A second
  start goes on after the last alpha that was scored.

  Args:
    run: the settings (`t5tune.run.Run`): what is scored, and BEST_METRIC.
    before: the weights at alpha = 0; see `pretrained.open_weights`.
    after: those at alpha = 1.
    alphas: what to try, ascending.
    configuration: the gin configuration, a `t5tune.config.Config`.
    flags: `data_dir`, `store_dir` and `workdir`.

  Raises:
    UserError: the two do not fit each other, or `workdir` holds something else.
  """
  console, folder = run_log.console(), flags.workdir
  ends = [
    _opened(name, label) for name, label in ((before, "BEFORE"), (after, "AFTER"))
  ]
  path = interpolation.between(*ends, 0.0).vocabulary or run.vocabulary_path()
  tokenizer = vocabularies.Tokenizer(path)
  run = run.with_model(
    t5.pad_vocab_size(
      dataclasses.replace(pretrained.run_as(ends[1].config, run.model), lora=None),
      tokenizer.size,
    )
  )
  mesh = partitioning.make_mesh(run.mesh)
  model = Model(run.model)
  evaluate = _evaluator(run, tokenizer, model, mesh, flags)

  def params(alpha: float):
    return pretrained.params(interpolation.between(*ends, alpha), model, mesh)

  asked = {
    "before": ends[0].origin,
    "after": ends[1].origin,
    "best_metric": str(run.chosen_by),
    "validation_examples": run.eval_examples,
    "vocabulary": tokenizer.sha256,
    "rouge": rouge.DEFAULT.fingerprint,
    **json.loads(json.dumps(run_scores.scoring_settings(run))),
  }
  with run_directory.claimed(folder):
    record = _Record.begun(folder, asked)
    with (
      jax.set_mesh(mesh),
      run_log.Progress(console, 0, len(alphas) + 2, "alphas") as progress,
    ):
      rows = _score_alphas(evaluate, run, params, alphas, record, progress)
      best = best_alpha(rows)
      chosen = interpolation.between(*ends, best)
      tests = run_scores.RunScores(evaluate, run, folder, progress)
      if not run_scores.is_tested(run, folder, 0):
        tests.test(params(0.0), 0)
      progress.advance(len(alphas) + 1)
      if record.tested != best or not run_scores.is_tested(run, folder, chosen.step):
        tests.test(params(best), chosen.step)
        record.tested = best
        record.keep()
    chosen = dataclasses.replace(chosen, vocabulary=tokenizer.path)
    _make_workdir(folder, chosen, run, configuration, after)
  _print(console, rows, best, run, folder, chosen.step)


def _evaluator(run, tokenizer, model, mesh, flags) -> evaluator.Evaluator:
  """Prepares what is scored.

  Raises:
    UserError: BEST_METRIC is not measured there.
  """
  request = run.request(flags.data_dir, tokenizer.path, train=False)
  mixture = build.ensure(request, flags.store_dir)
  scored = scored_mixture.prepare(run.eval_mixture, request, mixture, flags.store_dir)
  evaluate = evaluator.for_run(run, scored, model, mesh, tokenizer)
  evaluator.check_best_metric(evaluate, run)
  return evaluate


def best_alpha(rows: Sequence[dict[str, Any]]) -> float:
  """Returns the alpha that scored best; a score that is no number never is."""
  return max(
    rows, key=lambda row: row["score"] if math.isfinite(row["score"]) else -math.inf
  )["alpha"]


def _score_alphas(
  evaluate, run, params, alphas, record: "_Record", progress
) -> list[dict[str, Any]]:
  """Scores the weights at each alpha on EVAL_SPLIT, where an earlier start did not."""
  for done, alpha in enumerate(alphas, start=1):
    if _key(alpha) not in record.rows:
      with progress.evaluation():
        made = evaluate.evaluate(
          params(alpha), run.eval_split, None, run.eval_examples, progress.evaluating
        )
      value, tasks = run.chosen_by.score(made), [result.summary() for result in made]
      record.rows[_key(alpha)] = {"alpha": alpha, "score": value, "tasks": tasks}
      record.keep()
    progress.advance(done)
  return [record.rows[_key(alpha)] for alpha in alphas]


def _opened(name: str, label: str) -> weights.Weights:
  path = pathlib.Path(name).expanduser()
  opened = pretrained.open_weights(
    str(path.absolute()) if path.is_dir() else name, label
  )
  if opened is None:
    raise errors.UserError(f"{label} = 'scratch' has no weights; name a checkpoint.")
  return opened


def _key(alpha: float) -> str:
  return f"{alpha:g}"


@dataclasses.dataclass
class _Record:
  """What has been scored, as the folder keeps it.

  Attributes:
    folder: the work directory.
    asked: what is scored, and how.
    rows: alpha -> its scores on EVAL_SPLIT.
    tested: the alpha that was scored on TEST_SPLIT, or None.
  """

  folder: pathlib.Path
  asked: dict[str, Any]
  rows: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
  tested: float | None = None

  @classmethod
  def begun(cls, folder: pathlib.Path, asked: dict[str, Any]) -> "_Record":
    """Returns what an earlier start has left in the folder.

    Raises:
      UserError: it holds a training, or an interpolation of something else.
    """
    file = folder / FILE
    if not file.is_file():
      if any((folder / name).exists() for name in ("run.json", "checkpoints")):
        raise errors.UserError(
          f"--workdir={folder} holds a training already; name a new folder."
        )
      return cls(folder, asked)
    try:
      kept = json.loads(file.read_text())
      rows = {_key(row["alpha"]): row for row in kept["alphas"]}
      before, tested = kept["asked"], kept["tested"]
    except (ValueError, KeyError, TypeError) as e:
      raise errors.UserError(
        f"{file} is damaged ({e}); remove it to start anew."
      ) from e
    for name, value in asked.items():
      if before.get(name) != value:
        raise errors.UserError(
          f"--workdir={folder} was begun with {name} = {before.get(name)}, not {value};"
          " name a new folder."
        )
    return cls(folder, asked, rows, tested)

  def keep(self) -> None:
    """Writes it to the folder."""
    rows = sorted(self.rows.values(), key=lambda row: row["alpha"])
    kept = {"asked": self.asked, "tested": self.tested, "alphas": rows}
    text = json.dumps(kept, indent=1) + "\n"
    run_directory.write_atomically(self.folder / FILE, text)


def _make_workdir(
  folder: pathlib.Path,
  chosen: weights.Weights,
  run: Any,
  configuration: Any,
  after: str,
) -> None:
  """Writes the weights, in place of earlier ones, and what makes a work directory.

  Raises:
    UserError: it cannot be written.
  """
  (folder / "run.json").unlink(
    missing_ok=True
  )  # a killed start leaves no work directory
  shutil.rmtree(folder / "checkpoints", ignore_errors=True)
  run_directory.write_atomically(folder / "config.gin", configuration.text)
  path = pathlib.Path(after).expanduser()
  trained = workdirs.root(path) / "mixture.json" if workdirs.is_workdir(path) else None
  if trained and trained.is_file():  # which tasks were learnt between the two
    run_directory.write_atomically(folder / "mixture.json", trained.read_bytes())
  lengths = {"INPUT_LENGTH": run.input_length, "TARGET_LENGTH": run.target_length}
  try:
    workdirs.write(chosen, folder, lambda done, total: None, lengths)
  except (OSError, ValueError) as e:  # orbax tells of a full disk in both
    raise errors.UserError(
      f"the weights cannot be written to {folder}/checkpoints: {e}. Free space there and"
      " start again: what was scored is kept."
    ) from e


def _print(
  console: Console, rows, best: float, run: Any, folder: pathlib.Path, step: int
) -> None:
  print_alphas(console, rows, best, str(run.chosen_by))
  scores = results.after_and_before(folder, step)
  tables.print_losses(console, *scores)
  title = f"Scores at alpha = {best:g} beside those at alpha = 0 (before)"
  tables.print_scores(console, title, *scores)
  console.print(
    f"weights at alpha = {best:g}: {folder} (a work directory: for INIT, infer, convert)",
    highlight=False,
    soft_wrap=True,
  )


def print_alphas(
  console: Console, rows: Sequence[dict[str, Any]], best: float, by: str
) -> None:
  """Prints each alpha's scores.

  Args:
    console: where to print.
    rows: `alpha`, `score` and `tasks`, the summaries of an evaluation.
    best: the alpha that was chosen.
    by: what chose it.
  """
  table = Table(
    title=f"Weights between before (0) and after (1), chosen by {by}",
    title_justify="left",
  )
  tasks = [(t["task"], next(iter(t["scores"]))) for t in rows[0]["tasks"]]
  table.add_column("alpha", justify="right")
  table.add_column("chosen by", justify="right")
  for task, metric in tasks:
    table.add_column(f"{task}\n{metric}, loss", justify="right")
  for row in rows:
    cells = [
      f"{t['scores'][metric]:.2f}, {t['loss']:.3f}"
      for t, (_, metric) in zip(row["tasks"], tasks, strict=True)
    ]
    style = "bold" if row["alpha"] == best else None
    table.add_row(f"{row['alpha']:g}", f"{row['score']:.4f}", *cells, style=style)
  console.print(table)

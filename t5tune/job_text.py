"""What a training prints of itself: before its first step, and after its last."""

import math
import pathlib
from collections.abc import Mapping, Sequence

import jax
from rich.console import Console

from t5tune import config
from t5tune import job as jobs
from t5tune import run as runs
from t5tune.data import mixture_table, preflight
from t5tune.evaluation import checkpoint_choice, results, tables
from t5tune.planning import memory


def print_lines(console: Console, lines: Sequence[str]) -> None:
  """Prints lines as they are, neither folded nor marked up."""
  for line in lines:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _print_start(
  console: Console, configuration: config.Config, titled: Mapping[str, Sequence[str]]
) -> None:
  """Prints the configuration and, where there are any, lines under their titles."""
  console.print(configuration.text, highlight=False, markup=False)
  for title, lines in {"Overrides": configuration.overrides, **titled}.items():
    if lines:
      print_lines(console, [title, *(f"  {line}" for line in lines)])


def print_dry_run(
  console: Console, job: jobs.Job, configuration: config.Config
) -> None:
  """Prints all that can be known before the first step."""
  _print_start(console, configuration, {})
  shown = (job.mixture.name, job.data, job.train_steps, job.lengths_chosen)
  mixture_table.print_mixture(console, *shown)
  preflight.print_repeats(console, preflight.repeats(job.mixture))
  preflight.print_first_batch(console, job.data, job.tokenizer)
  needed = memory.of_step(job.step)
  advice = [] if needed.fits else [memory.ADVICE]
  print_lines(console, [*needed.lines(), *advice])


def print_summary(
  console: Console, job: jobs.Job, configuration: config.Config, changes: Sequence[str]
) -> None:
  """Prints what is going to be trained, on what, and with which settings."""
  titled = {
    "Changed since the last start": changes,
    f"Architecture, from {job.run.init}": job.told,
  }
  _print_start(console, configuration, titled)
  shown = (job.mixture.name, job.data, job.train_steps, job.lengths_chosen)
  mixture_table.print_mixture(console, *shown)
  devices = f"{jax.device_count()} {jax.devices()[0].device_kind} device(s)"
  if jax.process_count() > 1:
    devices += f" of {jax.process_count()} processes"
  count = job.model.num_params()
  trained = sum(math.prod(s.shape) for s in jax.tree.leaves(_trained(job)))
  of_these = "" if trained == count else f" ({trained:,} of them train)"
  size = f"{count:,} parameters{of_these}, {job.run.model.dtype}"
  print_lines(console, [f"{size}, {devices}, mesh {dict(job.mesh.shape)}"])


def _trained(job: jobs.Job) -> dict:
  """Returns the specs of the parameters that train, nested like them."""
  return job.optimizer.trainable(job.model.param_specs())


def print_results(
  console: Console,
  run: runs.Run,
  directory: pathlib.Path,
  train_steps: int,
  best: checkpoint_choice.Best,
) -> None:
  """Prints the scores before and after, examples, and where everything lies."""
  after, before = results.after_and_before(directory, train_steps)
  shown = run.show_task or next(iter(after))
  tables.print_examples(console, directory, shown, train_steps)
  tables.print_losses(console, after, before)
  title = f"Scores at step {train_steps:,}, before and after training"
  tables.print_scores(console, title, after, before)
  tables.print_templates(console, after)
  chosen = f" (best by {best.by}: step {best.step})" if best.step else ""
  lines = [
    "Where everything lies:",
    f"  configuration  {directory}/config.gin",
    f"  checkpoints    {directory}/checkpoints{chosen}",
    f"  metrics        {directory}/metrics.jsonl, {directory}/tensorboard",
    f"  scores         {directory}/scores",
    f"  predictions    {directory}/predictions",
  ]
  print_lines(console, lines)

"""The lengths of packed rows, chosen so that both sides fill together."""

import numpy as np

from t5tune import errors
from t5tune.data import index, mixture_examples, packing

_SAMPLE = 4096  # draws that are packed on trial
_TRIALS = 32
_TOLERANCE = 0.01  # of density, which is not worth a longer row


def choose_row_lengths(
  mixture: index.PreparedMixture,
  longest: tuple[int, int],
  budget: int | None,
  seed: int,
) -> tuple[int, int]:
  """Chooses the lengths of packed rows by packing the first draws of a mixture.

  Rows of many lengths are tried, their two sides in proportion to the mean lengths of
  inputs and targets as far as the longest examples allow. The shortest row is chosen
  that is, both sides together, all but as full as the fullest.

  Args:
    mixture: the prepared mixture.
    longest: input and target length of the longest example allowed.
    budget: most tokens of a row, both sides together; None for twice the longest.
    seed: seed of the shuffles.

  Returns:
    Input and target length of a row, each its longest or a multiple of 8 above it.

  Raises:
    UserError: the budget has no room for the longest example.
  """
  least = sum(longest)
  budget = 2 * least if budget is None else budget
  if budget < least:
    raise errors.UserError(
      f"run.Run.packed_tokens = {budget}: a packed row must hold the longest example,"
      f" INPUT_LENGTH + TARGET_LENGTH = {least} tokens. Set it to {least} or more."
    )
  lengths = mixture_examples.MixtureExamples(mixture, seed).draws(0, _SAMPLE)["lengths"]
  mean = lengths.mean(axis=0)
  totals = least * (budget / least) ** np.linspace(0, 1, _TRIALS)
  trials = {_split(total, mean[0] / mean.sum(), longest) for total in totals.round()}
  density = {trial: _density(lengths, trial) for trial in trials}
  enough = max(density.values()) - _TOLERANCE
  return min(
    (trial for trial in trials if density[trial] >= enough),
    key=lambda trial: (sum(trial), -density[trial], trial),
  )


def _split(total: float, share: float, longest: tuple[int, int]) -> tuple[int, int]:
  """Divides a row's tokens among its sides; `share` is what the inputs get."""
  inputs = max(int(min(total * share, total - longest[1])) // 8 * 8, longest[0])
  targets = int(min(total * (1 - share), total - inputs)) // 8 * 8
  return inputs, max(targets, longest[1])


def _density(lengths: np.ndarray, row: tuple[int, int]) -> float:
  """Returns the share of the positions that are filled when examples are packed."""
  rows = packing.first_fit(lengths, row).max() + 1
  return float(lengths.sum() / (rows * sum(row)))

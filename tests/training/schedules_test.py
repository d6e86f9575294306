"""Tests of the learning rate schedules."""

import jax.numpy as jnp
import numpy as np
import pytest

from t5tune import errors
from t5tune.training import optimizers, schedules

NAMES = ["constant", "linear", "cosine", "rsqrt"]
PEAK = 0.5


def rates(name: str, steps: int, warmup: int = 0, final_share: float = 0.0):
  """Returns each update's share of the peak, and that of one after the last."""
  schedule = schedules.make_schedule(name, PEAK, steps, warmup, final_share)
  return np.array([schedule(jnp.int32(step)) for step in range(steps + 1)]) / PEAK


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("warmup", [0, 1, 4])
def test_warm_up_grows_linearly_to_the_peak(name, warmup):
  found = rates(name, 10, warmup)
  # The first update already moves, and the last of the warm-up is at the peak.
  expected = [(step + 1) / warmup for step in range(warmup)]
  np.testing.assert_allclose(found[:warmup], expected, rtol=1e-6)
  assert found[warmup] == pytest.approx(1)  # decay begins at the peak
  assert found.max() == pytest.approx(1)


@pytest.mark.parametrize("warmup", [0, 4])
@pytest.mark.parametrize("final_share", [0.0, 0.1])
def test_schedules_after_the_warm_up(warmup, final_share):
  after = np.arange(11 - warmup)
  rest = 10 - warmup
  shrinking = lambda share: final_share + (1 - final_share) * share  # noqa: E731
  for name, expected in {
    "constant": np.ones_like(after),
    "linear": shrinking(1 - after / rest),
    "cosine": shrinking((1 + np.cos(np.pi * after / rest)) / 2),
    "rsqrt": np.sqrt(max(warmup, 1) / (after + max(warmup, 1))),
  }.items():
    found = rates(name, 10, warmup, final_share)
    np.testing.assert_allclose(found[warmup:], expected, atol=1e-6, err_msg=name)
    assert found[:10].min() > 0, "an update that moves nothing"


def test_rsqrt_is_that_of_t5s_pre_training():
  """1 / sqrt(max(step, 10,000)), https://arxiv.org/abs/1910.10683, section 3.1.2."""
  schedule = schedules.make_schedule("rsqrt", 0.01, 10**6, 10_000)
  for step in (9_999, 10_000, 40_000, 250_000):
    assert schedule(jnp.int32(step)) == pytest.approx(max(step, 1e4) ** -0.5, rel=1e-5)


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize(
  "given,said",
  [
    ({"warmup_steps": 10}, "warmup_steps = 10 leaves no step of 10"),
    ({"warmup_epochs": 0.8}, r"warmup_epochs = 0.8 \(10 steps\) leaves no step of 10"),
  ],
)
def test_a_warm_up_as_long_as_the_run_leaves_no_decay(name, given, said):
  config = optimizers.OptimizerConfig(schedule=name, **given)
  with pytest.raises(errors.UserError, match=f"{said} .*TRAIN_STEPS"):
    optimizers.make_optimizer(config, {"kernel": None}, 10, steps_per_epoch=12.5)
  assert rates("constant", 10, warmup=10)[4] == pytest.approx(0.5)


def test_a_warm_up_in_epochs_is_one_in_steps():
  params = {"kernel": None}

  def schedule(**warmup):
    config = optimizers.OptimizerConfig(schedule="cosine", **warmup)
    made = optimizers.make_optimizer(config, params, 100, steps_per_epoch=12.5)
    return [float(made.schedule(jnp.int32(step))) for step in range(100)]

  assert schedule(warmup_epochs=2.0) == schedule(warmup_steps=25)
  assert schedule(warmup_epochs=0.1) == schedule(warmup_steps=2)  # 1.25, rounded up
  assert schedule(warmup_epochs=0.0) == schedule(warmup_steps=0)

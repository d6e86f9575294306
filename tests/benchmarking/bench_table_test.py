"""What was measured becomes rates, and a table."""

import jax.numpy as jnp
import numpy as np
import pytest

from t5tune.benchmarking import measures, subject, table


def measure(kind: str, **cost) -> measures.Measure:
  return measures.Measure(f"a {kind}", kind, measures.Cost(**cost), lambda: None)


def test_rates_are_of_the_median_and_of_the_best_product():
  found = [
    measure("train", flops=600, target_tokens=10, memory=5),
    measure("matmul", flops=100),
    measure("matmul", flops=100),
    measure("save", read_bytes=8),
  ]
  seconds = [[9.0, 1.0, 2.0], [1.0, 1.0, 1.0], [0.25, 0.5, 99.0], [4.0, 4.0, 4.0]]
  train, slow, fast, save = table.records(found, seconds, devices=2)
  assert train["median"] == 2 and train["seconds"] == [9.0, 1.0, 2.0]
  assert train["target_tokens_per_second"] == 5
  assert fast["flops_per_second"] == 200
  assert train["mfu"] == pytest.approx(300 / 200 / 2)
  assert save["read_bytes_per_second"] == 2
  assert not any("mfu" in r for r in (slow, fast, save))
  assert not {"memory_per_second", "input_tokens_per_second"} & train.keys()


def test_measures_take_turns_after_a_run_that_is_not_counted():
  order = []
  found = [
    measures.Measure(n, n, measures.Cost(), lambda n=n: order.append(n)) for n in "ab"
  ]
  seconds = measures.run_rounds(found, 2, lambda text: None)
  assert order == list("ababab")
  assert [len(s) for s in seconds] == [2, 2]
  measures.run_rounds(found, 2, lambda text: None, warm_up=False)
  assert order == list("ababab" + "abab")


def test_what_a_measure_returns_is_waited_for(monkeypatch):
  waited = []
  monkeypatch.setattr(measures.jax, "block_until_ready", waited.append)
  made = measures.Measure("", "train", measures.Cost(), lambda: jnp.ones(3))
  made.seconds()
  assert len(waited) == 1


def test_random_rows_are_full():
  batch = subject.random_batch(4, (8, 3), 50)
  assert batch["encoder_input_tokens"].shape == (4, 8)
  assert (batch["encoder_segment_ids"] == 1).all()
  assert batch["decoder_loss_weights"].sum() == 4 * 3
  assert np.array_equal(
    batch["decoder_input_tokens"][:, 1:], batch["decoder_target_tokens"][:, :-1]
  )

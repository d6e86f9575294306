"""The evaluator: its numbers by hand, whatever the batches."""

import dataclasses

import eval_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5tune.data import token_store
from t5tune.errors import UserError
from t5tune.evaluation import baselines, evaluator, programs


@pytest.fixture(scope="module")
def setup(tmp_path_factory, vocabulary):
  return eval_data.Setup(tmp_path_factory.mktemp("stores"), vocabulary)


@pytest.fixture(scope="module")
def evaluate(setup):
  """Evaluates with one evaluator, in batches of four and inputs padded to 64."""
  compiled = setup.evaluator()

  def evaluate(*args, **kwargs):
    with jax.set_mesh(setup.mesh):
      return compiled.evaluate(setup.params, *args, **kwargs)

  return evaluate


@pytest.fixture(scope="module")
def evaluated(evaluate):
  """The full evaluation of both tasks, `second` on its validation split."""
  return evaluate("test", "validation", full=True)


def losses_by_hand(setup, examples) -> list[float]:
  """Returns the summed loss of each (inputs, targets), one at a time."""

  @jax.jit
  def log_probs(inputs, shifted, input_ids, target_ids):
    module = setup.model.merge(setup.params)
    return jax.nn.log_softmax(module(inputs, shifted, input_ids, target_ids, None))

  def padded(tokens, length):
    return np.pad(tokens, (0, length - len(tokens)))[None].astype(np.int32)

  sums = []
  for inputs, targets in examples:
    found = log_probs(
      padded(inputs, 80),
      padded([0, *targets[:-1]], 20),
      padded(np.ones(len(inputs)), 80),
      padded(np.ones(len(targets)), 20),
    )
    sums.append(-float(sum(found[0, t, token] for t, token in enumerate(targets))))
  return sums


def test_loss_by_hand(setup, evaluated):
  store = token_store.TokenStore(setup.mixture.tasks[0].splits["test"])
  examples = store.read(range(len(store)))
  tokens = sum(len(targets) for _, targets in examples)
  own = sum(losses_by_hand(setup, examples))
  assert evaluated[0].loss == pytest.approx(own / tokens, rel=1e-4)
  order = sorted(range(len(examples)), key=lambda i: len(examples[i][0]))
  swapped = baselines.other_rows(order)
  others = [(examples[other][0], examples[i][1]) for i, other in enumerate(swapped)]
  shuffled = sum(losses_by_hand(setup, others))
  assert evaluated[0].shuffled_loss == pytest.approx(shuffled / tokens, rel=1e-4)
  assert abs(evaluated[0].shuffled_loss - evaluated[0].loss) > 0.01


def test_of_many_rows_some_batches_are_given_other_inputs(
  setup, evaluated, monkeypatch
):
  monkeypatch.setattr(evaluator, "_SWAPPED_ROWS", 2)
  examples = token_store.TokenStore(setup.mixture.tasks[0].splits["test"]).read(
    range(7)
  )
  order = sorted(range(7), key=lambda i: len(examples[i][0]))
  swapped = baselines.other_rows(order)
  some = [*order[:2], *order[6:]]  # every third batch of two
  own = losses_by_hand(setup, [examples[i] for i in some])
  other = [(examples[swapped[i]][0], examples[i][1]) for i in some]
  rise = sum(losses_by_hand(setup, other)) - sum(own)
  rise /= sum(len(examples[i][1]) for i in some)
  with jax.set_mesh(setup.mesh):
    made = setup.evaluator(2).evaluate(setup.params, "test", full=True)
  assert made[0].loss == pytest.approx(evaluated[0].loss, rel=1e-5)
  assert made[0].shuffled_loss == pytest.approx(made[0].loss + rise, rel=1e-4)


@pytest.mark.parametrize("rows", [3, 16, 24])
def test_batches_and_padding_do_not_matter(setup, evaluated, rows):
  # Inputs are padded to 64, 128 or 256; targets of 16 rows and more go by quarters.
  other = setup.evaluator(rows, input_length=256)
  assert (other._runner._target_rows < rows) == (rows > 3)
  with jax.set_mesh(setup.mesh):
    made = other.evaluate(setup.params, "test", "validation", full=True)
  for found, wanted in zip(made, evaluated, strict=True):
    found, wanted = dataclasses.asdict(found), dataclasses.asdict(wanted)
    for name in ("loss", "shuffled_loss"):
      assert found.pop(name) == pytest.approx(wanted.pop(name), rel=1e-5)
    assert found == wanted


def test_twice_is_the_same_to_the_digit(evaluate, evaluated):
  assert evaluate("test", "validation", full=True) == evaluated


def test_rows_and_baselines(setup, evaluated):
  first, second = evaluated
  assert [r.split for r in evaluated] == ["test", "validation"]
  assert [row["number"] for row in first.rows] == list(range(7))
  for row, (inputs, targets) in zip(first.rows, eval_data.TEXTS, strict=True):
    assert row["inputs_pretokenized"] == inputs
    assert row["references"] == [targets.upper()]
    assert row["scores"]["rows"] == 1
  mean = np.mean([row["scores"]["overlap"] for row in first.rows])
  assert first.headline == ("overlap", pytest.approx(mean))
  assert len({row["prediction"] for row in first.rows}) > 1
  assert first.constant_answer in [target for _, target in eval_data.TEXTS]
  assert first.constant["rows"] == first.shuffled["rows"] == 7
  assert first.unigram_loss > 0
  # No training tokens at hand, no baselines made of them.
  assert second.unigram_loss is second.constant is second.constant_answer is None
  assert second.summary()["rows"] == 2


def echo(model, tokens, segment_ids, max_length, rules):
  """Answers with the input, cut at `max_length`."""
  return jnp.pad(tokens, ((0, 0), (0, max_length)))[:, :max_length]


def no_losses(params, tokens, segment_ids, batch):
  return 0.0, 1.0


def test_answers_stay_with_their_rows(setup, monkeypatch):
  # Rows are decoded in the order of their lengths.
  monkeypatch.setattr(programs.decoding, "greedy", echo)
  monkeypatch.setattr(programs, "jit_encode", lambda model: lambda p, tokens, _: tokens)
  monkeypatch.setattr(programs, "jit_losses", lambda model, mesh: no_losses)
  store = token_store.TokenStore(setup.mixture.tasks[0].splits["test"])
  lengths = np.array([len(inputs) for inputs, _ in store.read(range(7))])
  cap = int(np.sort(lengths)[4])
  with jax.set_mesh(setup.mesh):
    made = setup.evaluator(3, target_length=cap).evaluate(setup.params, "test")
  for row, length in zip(made[0].rows, lengths, strict=True):
    text = row["inputs_pretokenized"]
    assert (
      row["prediction"] == text if length <= cap else text.startswith(row["prediction"])
    )
  assert made[0].at_cap == pytest.approx(np.mean(lengths > cap))
  assert made[0].mean_length == pytest.approx(np.minimum(lengths, cap).mean())
  assert made[0].shuffled is None


def test_fewer_rows_are_spread_over_the_split(evaluate):
  told = []
  made = evaluate("test", max_examples=5, progress=lambda *args: told.append(args))
  assert [row["number"] for row in made[0].rows] == [0, 2, 3, 4, 6]
  assert told == [("first", 4, 5, 0.8), ("first", 5, 5, 1.0)]
  assert "scores" not in made[0].rows[0]


def test_a_split_that_no_task_has(evaluate):
  with pytest.raises(UserError, match="'tset' or 'dev'; there is: test, validation"):
    evaluate("tset", "dev")


def test_one_row_has_no_other(evaluate):
  made = evaluate("test", max_examples=1, full=True)
  assert made[0].shuffled is made[0].shuffled_loss is None
  assert made[0].loss > 0


def test_the_metrics_of_a_task(setup, evaluated):
  found = setup.evaluator(3).metrics_of("first", "test")
  assert found == list(evaluated[0].scores)


def test_no_task_and_no_batch_compiles_anew(setup):
  compiled = setup.evaluator(2, input_length=256, target_length=128)
  with jax.set_mesh(setup.mesh):
    compiled.evaluate(setup.params, "test", "validation", full=True)
    runner = compiled._runner
    made = runner._encode, runner._losses, runner._decode(32)
    counts = [program._cache_size() for program in made]
    compiled.evaluate(setup.params, "validation", "test", full=True)
  # All inputs and targets of both tasks are in the first bucket.
  assert counts == [program._cache_size() for program in made] == [1, 1, 1]
  assert runner._decode.cache_info().currsize == 1


def test_the_decode_length_is_that_of_the_references(setup):
  with jax.set_mesh(setup.mesh):
    made = setup.evaluator(4, target_length=256).evaluate(setup.params, "test")
    few = setup.evaluator(4, target_length=8).evaluate(setup.params, "test")
  assert [result.decode_length for result in (*made, *few)] == [64, 8]
  answers = [row["prediction"] for row in made[0].rows]
  for row, answer in zip(few[0].rows, answers, strict=True):
    assert answer.startswith(row["prediction"])
    assert row["cut"] or answer == row["prediction"]

"""Beam search by both rules, against a plain search and brute force of random trees."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5tune import errors
from t5tune.models import beam_search, decoding
from t5tune.models.beam_search import BeamConfig

EOS = decoding.EOS_ID


def score(config: BeamConfig, logprob: float, length: int) -> float:
  base = (5 + length) / 6 if config.rules == "t5x" else length
  return logprob / base**config.length_penalty


class Trees:
  """Decoders that are tables: random logits for each prefix, a tree to each row.

  The nodes are numbered like a heap's: the children of i follow i * vocab.
  """

  def __init__(self, rows: int, vocab: int, depth: int):
    rng = np.random.default_rng(0)
    self.shape = rows, vocab, depth
    nodes = sum(vocab**i for i in range(depth))
    self.logits = rng.normal(size=(rows, nodes, vocab)).astype(np.float32)
    # Rows end early, late, or (all but) never.
    self.logits[..., EOS] += np.linspace(1, -20, rows)[:, None]
    self.logprobs = np.asarray(jax.nn.log_softmax(self.logits))

  def search(self, config: BeamConfig, count: int, spy=None):
    """Returns ids and scores by the module under test.

    All but the first `count` rows are padding; `spy` is told of each position.
    """
    rows, vocab, depth = self.shape
    padding, beams = np.arange(rows) >= count, config.num_beams

    def decode_position(tokens, position, cache, lineage):
      if spy:
        jax.debug.callback(spy, position)
      row, nodes = cache  # the node of each beam at each position, (b, n, t)
      was = jnp.take_along_axis(nodes, lineage, axis=1)[..., position - 1]
      node = jnp.where(position == 0, 0, was * vocab + 1 + tokens)
      nodes = jax.lax.dynamic_update_slice_in_dim(nodes, node[..., None], position, 2)
      return jnp.asarray(self.logits)[row[:, None], node], (row, nodes)

    cache = jnp.arange(rows), jnp.zeros((rows, beams, depth), jnp.int32)
    run = jax.jit(
      lambda: beam_search.search(decode_position, cache, padding, depth, config)
    )
    return jax.device_get(run())

  def logprob(self, row: int, prefix: tuple[int, ...], token: int) -> float:
    node = functools.reduce(lambda i, x: i * self.shape[1] + 1 + x, prefix, 0)
    return float(self.logprobs[row, node, token])

  def to_arrays(self, found):
    """Returns ids and scores of lists of (score, sequence), one for each row."""
    depth = self.shape[2]
    scores = [[s for s, _ in row] for row in found]
    ids = [[(*x, *[0] * (depth - len(x))) for _, x in row] for row in found]
    return np.array(ids), np.array(scores)


TREES = Trees(rows=48, vocab=5, depth=5)


@functools.cache
def search(config: BeamConfig, trees: Trees = TREES):
  return trees.search(config, trees.shape[0])


def plain_search(trees: Trees, row: int, config: BeamConfig):
  """Searches a row with lists, by the letter of the rules.

  Never stops early by those of T5X, to show that to stop early loses nothing.
  """
  n, live, ended = config.num_beams, [(0.0, ())], []
  depth = trees.shape[2]
  for length in range(1, depth + 1):
    candidates = [
      (logprob + trees.logprob(row, prefix, token), (*prefix, token))
      for logprob, prefix in live
      for token in range(trees.shape[1])
    ]
    candidates = sorted(candidates, reverse=True)[: 2 * n]
    live = [c for c in candidates if c[1][-1] != EOS][:n]
    if config.rules == "hf" and length == depth:
      ending = candidates[:n]
    else:
      may_end = candidates[:n] if config.rules == "hf" else candidates
      ending = [c for c in may_end if c[1][-1] == EOS]
    ended += [(score(config, logprob, length), x) for logprob, x in ending]
    ended = sorted(ended, reverse=True)[:n]
    if config.rules == "hf" and len(ended) == n:
      if config.early_stopping or score(config, live[0][0], length) <= ended[-1][0]:
        break
  result = ended or live
  return result + [(-np.inf, ())] * (n - len(result))


CONFIGS = [
  *(BeamConfig(n, 0.6, "t5x") for n in (1, 2, 4)),
  *(BeamConfig(n, 1.0, "hf", stop) for n in (2, 3) for stop in (False, True)),
  BeamConfig(3, 0.0, "t5x"),
  BeamConfig(1, 4.0, "t5x"),
  BeamConfig(1, 1.0, "hf"),
  BeamConfig(3, 2.0, "hf"),
  BeamConfig(3, -1.0, "hf"),
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_equals_a_plain_search(config):
  ids, scores = search(config)
  found = [plain_search(TREES, row, config) for row in range(TREES.shape[0])]
  expected_ids, expected_scores = TREES.to_arrays(found)
  np.testing.assert_array_equal(ids, expected_ids)
  np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)


def test_the_rules_differ():
  # Or the test above would show less than it seems to.
  best = {config: search(config)[0][:, 0] for config in CONFIGS}
  for a, b in itertools.combinations(CONFIGS, 2):
    assert (best[a] != best[b]).any(), (a, b)
  ended = (best[CONFIGS[0]] == EOS).any(axis=1)
  assert 0 < ended.sum() < len(ended)


@pytest.mark.parametrize("rules", beam_search.RULES)
def test_enough_beams_find_everything(rules):
  trees = Trees(rows=12, vocab=4, depth=3)
  config = BeamConfig(40, 0.6, rules)  # 4 + 36 sequences
  found = []
  for row in range(trees.shape[0]):
    sequences = {}
    for x in itertools.product(range(4), repeat=3):
      x = x[: x.index(EOS) + 1] if EOS in x else x
      steps = (trees.logprob(row, x[:i], token) for i, token in enumerate(x))
      if rules == "hf" or EOS in x:  # T5X prefers any that ended
        sequences[x] = score(config, sum(steps), len(x))
    ranked = sorted(((s, x) for x, s in sequences.items()), reverse=True)
    found.append(ranked + [(-np.inf, ())] * (40 - len(ranked)))
  ids, scores = search(config, trees)
  expected_ids, expected_scores = trees.to_arrays(found)
  np.testing.assert_array_equal(ids, expected_ids)
  np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)


def test_stops_when_all_rows_are_done():
  rows, _, depth = TREES.shape

  def positions(count: int, config: BeamConfig) -> set[int]:
    seen = set()
    TREES.search(config, count, lambda position: seen.add(int(position)))
    jax.effects_barrier()
    return seen

  for config in (BeamConfig(2), BeamConfig(2, 1.0, "hf", True)):
    assert len(positions(rows, config)) == depth
    assert 1 < len(positions(1, config)) < depth
    assert not positions(0, config)


@pytest.mark.parametrize(
  "bindings,message",
  [
    ({"num_beams": 0}, "num_beams = 0: .* at least 1"),
    ({"num_beams": 4.0}, "num_beams = 4.0: .* integer"),
    ({"rules": "t5"}, "rules = 't5': .* Did you mean 't5x'"),
    ({"early_stopping": "never", "rules": "hf"}, "'never': it must be True or False"),
    ({"early_stopping": True}, "early_stopping = True: .*'t5x'.*rules to 'hf'"),
    ({"length_penalty": float("nan")}, "length_penalty = nan: .* finite"),
    ({"length_penalty": -1.0}, "length_penalty = -1.0: .* at least 0"),
  ],
  ids=str,
)
def test_a_search_that_cannot_be_is_explained(bindings, message):
  with pytest.raises(errors.UserError, match=message):
    BeamConfig(**bindings)

"""What is measured: a run's model on its mesh, with a state and batches."""

import dataclasses
import functools
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from t5tune import partitioning
from t5tune.benchmarking.measures import Cost, Measure
from t5tune.data import packing
from t5tune.evaluation import programs as decoding_programs
from t5tune.models import beam_search, logit_rules
from t5tune.planning import flops, memory, programs
from t5tune.training import checkpoints, train_state

_RUN_LENGTH = 10_000  # of schedules; it changes no program
_FIRST_ID = 3  # after padding, end of sequence and the unknown
BATCHES = 8  # of a mixture, measured in turn
_FED = 200  # batches, more than are made ahead
_SIDES = ("encoder_input_tokens", "decoder_input_tokens")


@dataclasses.dataclass
class Subject:
  """A model, its state and what it is fed.

  Attributes:
    run: the settings, a `t5tune.run.Run` whose model has a `vocab_size`.
    step: model, optimiser, mesh and the compiled update.
    batches: arrays as `packing.to_batch` makes them, measured in turn.
    scratch: a folder for checkpoints, which are removed.
  """

  run: Any
  step: programs.Step
  batches: Sequence[dict[str, np.ndarray]]
  scratch: pathlib.Path

  @classmethod
  def of_random_tokens(
    cls, run: Any, lengths: tuple[int, int], scratch: pathlib.Path
  ) -> "Subject":
    """Returns a model that is fed full rows of random tokens.

    Args:
      run: the settings.
      lengths: input and target length of a row.
      scratch: a folder for checkpoints.
    """
    mesh = partitioning.make_mesh(run.mesh)
    run.check_batch(partitioning.batch_shards(mesh))
    step = programs.training_step(run, mesh, lengths, _RUN_LENGTH, _RUN_LENGTH)
    batch = random_batch(run.batch_size, lengths, run.model.vocab_size)
    return cls(run, step, [batch], scratch)

  def describe(self) -> str:
    """Returns a line about what is measured."""
    run, model = self.run, self.step.model
    shapes = {tuple(b[n].shape[1] for n in _SIDES) for b in self.batches}
    rows = " and ".join(f"{a} + {b}" for a, b in sorted(shapes))
    return (
      f"{model.num_params():,} parameters, {run.model.dtype}, remat"
      f" {run.model.remat!r}; {run.batch_size} rows of {rows} tokens, answers of"
      f" {run.target_length} to {run.input_length}; {self.step.mesh.size}"
      f" {jax.default_backend()} device(s)"
    )

  def tokens_of_a_device(self) -> int:
    """Returns the input positions of a batch that a device has."""
    positions = self.batches[0]["encoder_segment_ids"].size
    return positions // partitioning.batch_shards(self.step.mesh)

  def measures(
    self, names: Sequence[str], feed: Iterator[dict[str, np.ndarray]] | None
  ) -> list[Measure]:
    """Returns the measures of these names.

    Args:
      names: 'train', 'greedy', 'beam', 'save' before 'restore', 'data'.
      feed: the batches of a mixture, which 'data' measures.
    """
    made = []
    if "restore" in names and "save" not in names:
      self.save().work()
    for name in names:
      match name:
        case "greedy" | "beam":
          made.append(self.decode(name))
        case "data":
          made.append(self.data(feed))
        case _:
          made.append(getattr(self, name)())
    return made

  @functools.cached_property
  def state(self) -> train_state.TrainState:
    """The train state, of random parameters; every update replaces it."""
    with jax.set_mesh(self.step.mesh):
      return train_state.create(self.step.model, self.step.optimizer, self.step.mesh, 0)

  def _placed(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    rows, size = partitioning.process_rows, self.run.batch_size
    return partitioning.put_batch(
      self.step.mesh, batch, rows(self.step.mesh, size), size
    )

  def train(self) -> Measure:
    """Returns the measure of training steps; of several batches, one after another."""
    placed = [self._placed(batch) for batch in self.batches]
    key = jax.random.key(0)
    with jax.set_mesh(self.step.mesh):
      self.state  # noqa: B018  before the step's memory is taken
      programs_of = {}
      for batch in placed:
        if _shape(batch) not in programs_of:
          traced = self.step.update.trace(self.state, batch, key)
          programs_of[_shape(batch)] = traced.jaxpr, traced.lower().compile()
    jaxprs, compiled = zip(
      *(programs_of[_shape(batch)] for batch in placed), strict=True
    )

    def work():
      for update, batch in zip(compiled, placed, strict=True):
        self.state, metrics = update(self.state, batch, key)
      return metrics

    analyses = [c.cost_analysis() or {} for c in compiled]
    peaks = [memory.of_compiled(c, self.step.state, None).peak for c in compiled]
    cost = Cost(
      flops=sum(flops.of_jaxpr(j) for j in jaxprs),
      xla_flops=sum(a.get("flops", 0) for a in analyses),
      input_tokens=sum(int((b["encoder_segment_ids"] > 0).sum()) for b in self.batches),
      target_tokens=sum(int(b["decoder_loss_weights"].sum()) for b in self.batches),
      memory=max(peaks),
    )
    count = len(placed)
    name = "training step" if count == 1 else f"{count} training steps"
    return Measure(name, "train", cost, work)

  def decode(self, kind: str) -> Measure:
    """Returns the measure of encoding and decoding a batch to its full length.

    Args:
      kind: 'greedy', or 'beam' by the run's search, of 4 beams where it has none.
    """
    run, mesh = self.run, self.step.mesh
    beam = decoding_programs.GREEDY
    if kind == "beam":
      beam = run.beam if run.beam.num_beams > 1 else beam_search.BeamConfig()
    rules = logit_rules.LogitRules(min_length=run.target_length)  # no row ends early
    wanted = decoding_programs.DecodeConfig(run.target_length, beam, rules=rules)
    encode = decoding_programs.jit_encode(self.step.model)
    decode = decoding_programs.jit_decode(self.step.model, mesh, wanted)
    rows, length = run.eval_batch_size, run.input_length
    tokens = random_batch(rows, (length, 1), run.model.vocab_size)
    segment_ids = tokens["encoder_segment_ids"]

    def work():
      params = self.state.params
      with jax.set_mesh(mesh):
        encoded = encode(params, tokens["encoder_input_tokens"], segment_ids)
        return decode(params, encoded, segment_ids)

    cost = Cost(input_tokens=rows * length, target_tokens=rows * run.target_length)
    name = "greedy decoding" if kind == "greedy" else f"beam search of {beam.num_beams}"
    return Measure(f"{name}, {rows} rows", kind, cost, work)

  def data(self, feed: Iterator[dict[str, np.ndarray]]) -> Measure:
    """Returns the measure of making batches, in a thread of Grain's."""
    kept = []

    def work():
      kept[:] = [next(feed) for _ in range(_FED)]

    work()
    cost = Cost(
      input_tokens=sum(int((b["encoder_segment_ids"] > 0).sum()) for b in kept),
      target_tokens=sum(int(b["decoder_loss_weights"].sum()) for b in kept),
    )
    return Measure(f"{_FED} batches fed", "data", cost, work)

  def save(self) -> Measure:
    """Returns the measure of writing a checkpoint, until it is whole."""

    def work():
      shutil.rmtree(self.scratch / "checkpoints", ignore_errors=True)
      saved = checkpoints.Checkpoints(self.scratch / "checkpoints")
      saved.save(train_state.saved_part(self.state, self.step.model), {})
      saved.wait()
      saved.close()

    return Measure("checkpoint written", "save", self._state_cost(), work)

  def restore(self) -> Measure:
    """Returns the measure of reading the checkpoint that `save` wrote, and checking it."""
    wanted = train_state.saved_part(self.step.state, self.step.model)

    def work():
      saved = checkpoints.Checkpoints(self.scratch / "checkpoints", read_only=True)
      return saved.restore(int(self.state.step), wanted)[0]

    return Measure("checkpoint read", "restore", self._state_cost(), work)

  def _state_cost(self) -> Cost:
    saved = jax.tree.leaves(train_state.saved_part(self.step.state, self.step.model))
    return Cost(read_bytes=sum(x.size * x.dtype.itemsize for x in saved))


def _shape(batch: dict[str, jax.Array]) -> tuple[tuple[int, ...], ...]:
  return tuple(batch[name].shape for name in _SIDES)


def random_batch(
  rows: int, lengths: tuple[int, int], vocab_size: int
) -> dict[str, np.ndarray]:
  """Returns full rows of random tokens, as `packing.to_batch` lays them out.

  Args:
    rows: of the batch.
    lengths: input and target length.
    vocab_size: tokens are drawn from it.
  """
  rng = np.random.default_rng(0)
  inputs, targets = (
    rng.integers(_FIRST_ID, vocab_size, (rows, n)).astype(np.int32) for n in lengths
  )
  rows = [[pair] for pair in zip(inputs, targets, strict=True)]
  return packing.to_batch(rows, lengths)

"""A run: every setting of a training or an evaluation, filled in by gin.

The gin files of `gin/` bind these fields to the macros users set; the commands
read them. Settings are checked here, once, before anything is done.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from t5tune import errors
from t5tune.data import index, user_files, vocabularies
from t5tune.evaluation import checkpoint_choice
from t5tune.models import beam_search, t5
from t5tune.training import guard as guards
from t5tune.training import optimizers, workdir


@dataclasses.dataclass(frozen=True)
class Run:
  """The settings of a run; in brackets the macro that sets each.

  Attributes:
    mixture: a SeqIO mixture or task [MIXTURE].
    init: where the initial weights come from: 'scratch', a Hugging Face id or
      directory, or a T5X checkpoint [INIT].
    model: the architecture.
    optimizer: the optimiser and its schedule [LEARNING_RATE].
    batch_size: rows of an update; packed rows, when packing [BATCH_SIZE].
    input_length: longest input of an example, in tokens [INPUT_LENGTH].
    target_length: longest target of an example. Evaluation decodes a quarter of it, a
      half or all, as the longest reference of the task needs [TARGET_LENGTH].
    vocabulary: a SentencePiece model: a path, or the name of one that ships
      with t5tune; None for the one beside the initial weights [VOCABULARY].
    task_modules: modules that register tasks and mixtures [TASK_MODULES].
    train_steps: updates of the run [TRAIN_STEPS]; or else
    train_epochs: passes over as many examples as the mixture's tasks hold
      [TRAIN_EPOCHS].
    pack: whether several examples share a row [PACK].
    packed_lengths: input and target length of a packed row; None to choose them, at
      least (input_length, target_length), so that both sides fill together.
    packed_tokens: most tokens of a packed row whose lengths are chosen; None for
      twice input_length and target_length.
    eval_mixture: the mixture or task that is scored, such as what the model could do
      before; None for the one it trains on [EVAL_MIXTURE].
    eval_split: split that is scored during training and chooses the best
      checkpoint [EVAL_SPLIT].
    test_split: split of the scores before and after; a task without it is
      scored on `eval_split` [TEST_SPLIT].
    eval_steps: updates between evaluations; 0 for none during training
      [EVAL_STEPS].
    eval_examples: rows of a task scored during training, spread evenly over
      the split; None for all [EVAL_EXAMPLES].
    test_examples: the same for the scores before and after [TEST_EXAMPLES].
    beam: how outputs are decoded; with one beam, greedily [NUM_BEAMS].
    eval_batch_size: rows decoded together; an even number, for rows are given each
      other's inputs too.
    eval_before: whether to score the initial weights.
    checkpoint_steps: updates between checkpoints [CHECKPOINT_STEPS].
    keep_checkpoints: latest checkpoints kept, beside the best.
    best_metric: 'average' (of the tasks' headline scores), 'loss' (mean of the tasks'),
      'task/metric', or a dictionary of such with weights, whose mean counts; the
      checkpoint that is best by it on `eval_split` is kept [BEST_METRIC].
    early_stopping: evaluations in a row that may be no better than the best before
      training ends; None to train to the end [EARLY_STOPPING].
    log_steps: updates between lines of metrics.
    seed: seed of initialisation, data order, templates and dropout [SEED].
    mesh: devices along 'data', 'fsdp' and 'tensor'; -1 takes the rest [MESH].
    microbatches: parts of a batch that are run one after the other.
    z_loss: coefficient of the z-loss.
    label_smoothing: share of the target distribution spread over all tokens.
    max_passes: most drawings of a task's templates that are kept on disk.
    held_out_templates: names or tags of templates that training never draws, such as
      'inverted' or 'samsum/tldr' [HELD_OUT_TEMPLATES].
    eval_template: the template that evaluation uses where a task has it; None for
      each task's first; 'all' to give the scores before and after the mean, worst and
      spread over all of them too [EVAL_TEMPLATE].
    files: the user's own files as a task; None for registered tasks alone.
    data_cap: most training rows of a task; a number for all, or a dictionary by
      task, such as {'samsum': 1000}; None for no cap [DATA_CAP].
    cache_dirs: folders of SeqIO's offline caches, read where they hold a task.
    guard: when to warn, skip and stop (`training/guard.py`).
    show_task: the task whose examples are shown at the end; None for the first.
  """

  mixture: str
  init: str
  model: t5.T5Config
  optimizer: optimizers.OptimizerConfig
  batch_size: int
  input_length: int
  target_length: int
  vocabulary: str | None = None
  task_modules: Sequence[str] = ("t5tune.tasks.mixtures",)
  train_steps: int | None = None
  train_epochs: float | None = None
  pack: bool = True
  packed_lengths: tuple[int, ...] | None = None
  packed_tokens: int | None = None
  eval_mixture: str | None = None
  eval_split: str = "validation"
  test_split: str = "test"
  eval_steps: int = 0
  eval_examples: int | None = None
  test_examples: int | None = None
  beam: beam_search.BeamConfig = beam_search.BeamConfig(num_beams=1)
  eval_batch_size: int = 32
  eval_before: bool = True
  checkpoint_steps: int = 1000
  keep_checkpoints: int = 2
  best_metric: str | dict[str, float] = "average"
  early_stopping: int | None = None
  log_steps: int = 10
  seed: int = 0
  mesh: dict[str, int] = dataclasses.field(default_factory=lambda: {"data": -1})
  microbatches: int = 1
  z_loss: float = 1e-4
  label_smoothing: float = 0.0
  max_passes: int = 4
  held_out_templates: Sequence[str] = ()
  eval_template: str | None = None
  files: user_files.FileTask | None = None
  data_cap: int | dict[str, int] | None = None
  cache_dirs: Sequence[str] = ()
  guard: guards.GuardConfig = guards.GuardConfig()
  show_task: str | None = None

  def __post_init__(self):
    if (self.train_steps is None) == (self.train_epochs is None):
      both = "both" if self.train_steps is not None else "neither"
      raise errors.UserError(
        f"TRAIN_STEPS and TRAIN_EPOCHS: {both} set. Give the length of the run in one"
        " of them and set the other to None."
      )
    for name in _POSITIVE:
      value = getattr(self, name)
      if value is not None and value < 1:
        raise errors.UserError(f"{_macro(name)} = {value}: it must be at least 1.")
    if self.early_stopping is not None and self.eval_steps < 1:
      raise errors.UserError(
        f"EARLY_STOPPING = {self.early_stopping} looks at evaluations, and EVAL_STEPS ="
        f" {self.eval_steps} makes none. Set EVAL_STEPS."
      )
    if self.eval_steps < 0:
      raise errors.UserError(
        f"EVAL_STEPS = {self.eval_steps}: it must be 0, for never, or more."
      )
    self.chosen_by  # noqa: B018  checks BEST_METRIC
    if not 0 <= self.seed < 2**32:
      raise errors.UserError(f"SEED = {self.seed}: it must be from 0 to 2**32 - 1.")
    if not 0 <= self.label_smoothing < 1:
      raise errors.UserError(
        f"run.Run.label_smoothing = {self.label_smoothing}: it must be in [0, 1)."
      )
    if not 0 <= self.z_loss < math.inf:
      raise errors.UserError(
        f"run.Run.z_loss = {self.z_loss}: it must be 0 or more and finite."
      )
    if self.train_epochs is not None and not 0 < self.train_epochs < math.inf:
      raise errors.UserError(
        f"TRAIN_EPOCHS = {self.train_epochs}: it must be above 0 and finite."
      )
    if self.packed_lengths and (
      len(self.packed_lengths) != 2
      or self.packed_lengths[0] < self.input_length
      or self.packed_lengths[1] < self.target_length
    ):
      raise errors.UserError(
        f"run.Run.packed_lengths = {self.packed_lengths}: give the input and target"
        f" length of a packed row, at least INPUT_LENGTH = {self.input_length} and"
        f" TARGET_LENGTH = {self.target_length}."
      )

  def check_batch(self, shards: int) -> None:
    """Checks that the mesh can split a batch.

    Args:
      shards: into how many parts the mesh splits the rows of a batch.

    Raises:
      UserError: BATCH_SIZE does not divide.
    """
    parts = shards * self.microbatches
    if self.batch_size % parts:
      below, above = (
        self.batch_size // parts * parts,
        -(-self.batch_size // parts) * parts,
      )
      nearest = f"{below} or {above}" if below else str(above)
      raise errors.UserError(
        f"BATCH_SIZE = {self.batch_size} is not divisible by {parts}: MESH ="
        f" {dict(self.mesh)} splits a batch into {shards} part(s) and run.Run.microbatches"
        f" into {self.microbatches}. Set BATCH_SIZE to {nearest}."
      )

  def check_names(self, mixture: index.PreparedMixture) -> None:
    """Checks what names the mixture's tasks and splits, before a run needs them.

    Args:
      mixture: the prepared mixture.

    Raises:
      UserError: EVAL_SPLIT, BEST_METRIC or Run.show_task names what is not there.
    """
    scored = [t.name for t in mixture.tasks if self.eval_split in t.splits]
    if self.eval_steps > 0 and not scored:
      known = sorted({s for t in mixture.tasks for s in t.splits})
      raise errors.UserError(
        f"EVAL_SPLIT = {self.eval_split!r}: no task of {mixture.name!r} has it."
        f"{errors.did_you_mean(self.eval_split, known)} There is: {', '.join(known)}."
        " Set it, or EVAL_STEPS = 0."
      )
    if self.chooses:
      self.chosen_by.check_tasks(scored, self.eval_split)
    shown = [t.name for t in mixture.tasks if t.splits]
    if self.show_task is not None and self.show_task not in shown:
      raise errors.UserError(
        f"run.Run.show_task = {self.show_task!r} is no task of {mixture.name!r} that is"
        f" scored.{errors.did_you_mean(self.show_task, shown)} There is:"
        f" {', '.join(shown)}."
      )

  def with_model(self, model: t5.T5Config) -> "Run":
    """Returns the run with another architecture."""
    return dataclasses.replace(self, model=model)

  @property
  def chosen_by(self) -> checkpoint_choice.BestMetric:
    """What ranks checkpoints."""
    return checkpoint_choice.BestMetric.of(self.best_metric)

  @property
  def chooses(self) -> bool:
    """Whether there are evaluations to choose by, or a choice that could be wrong."""
    return self.eval_steps > 0 or self.best_metric != "average"

  @property
  def first_best(self) -> checkpoint_choice.Best:
    """The best evaluation, before there is one."""
    return checkpoint_choice.Best(f"{self.chosen_by} on {self.eval_split}")

  @property
  def row_lengths(self) -> tuple[int, int] | None:
    """Input and target length of a row of a batch; None where the data choose."""
    if not self.pack:
      return self.input_length, self.target_length
    return tuple(self.packed_lengths) if self.packed_lengths else None

  def vocabulary_path(self, directory: pathlib.Path | None = None) -> pathlib.Path:
    """Returns the SentencePiece model of the run.

    Args:
      directory: the work directory, whose copy serves where VOCABULARY is not set and
        the initial weights are no longer at hand.

    Raises:
      UserError: it is not named, or not there.
    """
    if self.vocabulary is not None:
      return vocabularies.resolve(self.vocabulary).absolute()
    from t5tune.weights import pretrained  # imports what reads all formats

    try:
      return pretrained.vocabulary_path(self.init)
    except errors.UserError:
      if directory is None or not workdir.vocabulary(directory).is_file():
        raise
      return workdir.vocabulary(directory).absolute()

  def request(
    self, data_dir: str | None, vocabulary: pathlib.Path, train: bool
  ) -> index.Request:
    """Returns the data this run needs.

    Args:
      data_dir: folder of the data sets' rows.
      vocabulary: the SentencePiece model.
      train: whether to train, or only to evaluate.
    """
    if train and self.files:
      self.files.check_files()
    data_dir = data_dir or os.environ.get("T5TUNE_DATA_DIR")
    return index.Request(
      mixture=self.mixture,
      task_modules=tuple(self.task_modules),
      data_dir=os.path.abspath(data_dir) if data_dir else None,
      vocabulary=str(vocabulary),
      input_length=self.input_length,
      target_length=self.target_length,
      row_lengths=self.row_lengths,
      batch_size=self.batch_size,
      pack=self.pack,
      seed=self.seed,
      train_steps=self.train_steps,
      train_epochs=self.train_epochs,
      max_passes=self.max_passes,
      splits=tuple(dict.fromkeys([self.eval_split, self.test_split])),
      train=train,
      row_tokens=self.packed_tokens,
      held_out_templates=tuple(self.held_out_templates),
      eval_template=self.eval_template,
      files=dataclasses.asdict(self.files) if self.files else None,
      data_cap=self.data_cap,
      cache_dirs=tuple(os.path.abspath(d) for d in self.cache_dirs),
    )

  def identity(
    self, vocabulary_sha256: str, mixture: index.PreparedMixture
  ) -> dict[str, Any]:
    """Returns what must not change between the starts of one run, by macro.

    Args:
      vocabulary_sha256: hash of the vocabulary file.
      mixture: the prepared mixture.
    """
    optimizer = dataclasses.asdict(self.optimizer)
    # The first pattern that matches counts, and dictionaries compare without order.
    scales = self.optimizer.learning_rate_scales.items()
    optimizer["learning_rate_scales"] = [list(item) for item in scales]
    return {
      "model": workdir.model_identity(self.model),
      "VOCABULARY": vocabulary_sha256,
      "MIXTURE": self.mixture,
      "INPUT_LENGTH": self.input_length,
      "TARGET_LENGTH": self.target_length,
      "PACK": self.pack,
      "packed_lengths": list(mixture.row_lengths),
      "BATCH_SIZE": self.batch_size,
      "SEED": self.seed,
      "optimizer": optimizer,
      "z_loss": self.z_loss,
      "label_smoothing": self.label_smoothing,
      "training data (rows, templates, preprocessors, rates)": mixture.fingerprint,
    }


_POSITIVE = (
  "batch_size",
  "input_length",
  "target_length",
  "train_steps",
  "eval_examples",
  "test_examples",
  "eval_batch_size",
  "checkpoint_steps",
  "early_stopping",
  "keep_checkpoints",
  "log_steps",
  "microbatches",
  "max_passes",
  "packed_tokens",
)
_WITHOUT_MACRO = (
  *("eval_batch_size", "keep_checkpoints", "log_steps", "microbatches"),
  *("max_passes", "packed_tokens"),
)


def _macro(field: str) -> str:
  if field in _WITHOUT_MACRO:
    return f"run.Run.{field}"
  return field.upper()

"""Facts: all that is shown of a task or mixture whose tokens are on disk."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from t5tune.data import feed, index, row_lengths, token_store, vocabularies
from t5tune.data.inspection.lengths import Side

_EXAMPLES = 3
_SAMPLE = 4096  # draws whose lengths say how full unpacked rows are


@dataclasses.dataclass(frozen=True)
class Split:
  """A split's token store; what nobody knows of it is None.

  Attributes:
    name: the split's name.
    drawn: which drawing of the templates it is, in words; "" where there is one.
    rows: rows of the source.
    skipped: bad rows that were left out.
    examples: examples made of the rows.
    inputs: lengths of the inputs.
    targets: lengths of the targets.
    lost_characters: character that the vocabulary lacks -> how often it stood in the
      text.
  """

  name: str
  drawn: str
  rows: int | None
  skipped: int | None
  examples: int
  inputs: Side
  targets: Side
  lost_characters: dict[str, int] | None


@dataclasses.dataclass(frozen=True)
class Text:
  """The inputs or targets of an example.

  Attributes:
    name: 'inputs' or 'targets'.
    tokens: how many.
    text: the text before it became tokens; None where the pipeline does not tell.
    decoded: the text of the tokens, escapes as they are; what is unknown is ' ⁇ '.
  """

  name: str
  tokens: int
  text: str | None
  decoded: str


@dataclasses.dataclass(frozen=True)
class Example:
  """A training example.

  Attributes:
    record: where it stands in its store.
    template: the template that was drawn for it, or None.
    shots: exemplars that it shows.
    inputs: its inputs.
    targets: its targets.
  """

  record: int
  template: str | None
  shots: int
  inputs: Text
  targets: Text


@dataclasses.dataclass(frozen=True)
class InspectedTask:
  """A task.

  Attributes:
    description: what it says of itself, a `task_descriptions.TaskDescription`.
    splits: the first training pass and the splits that are evaluated.
    template_shares: template -> share of the rows of the first pass that drew it;
      None where nobody knows.
    examples: a few training examples, spread over the rows.
  """

  description: Any
  splits: tuple[Split, ...]
  template_shares: dict[str, float] | None
  examples: tuple[Example, ...]

  @property
  def pairs(self) -> list[tuple["InspectedTask", Split]]:
    """Its splits, each beside the task."""
    return [(self, split) for split in self.splits]

  def tag_share(self, tag: str) -> float:
    """Returns the share of the rows that drew a template with a tag."""
    names = [t.name for t in self.description.templates if tag in t.tags]
    return sum((self.template_shares or {}).get(name, 0.0) for name in names)


@dataclasses.dataclass(frozen=True)
class Fill:
  """How much of a batch's rows is no padding, in one way of making them.

  Attributes:
    way: the way, in words.
    chosen: whether a run with the same settings makes them so.
    shapes: (input length, target length, share of the rows that have them).
    inputs: share of input positions that are filled, 0 to 1.
    targets: share of target positions that are filled.
    both: share of all positions that are filled.
  """

  way: str
  chosen: bool
  shapes: tuple[tuple[int, int, float], ...]
  inputs: float
  targets: float
  both: float


@dataclasses.dataclass(frozen=True)
class Inspection:
  """A task or mixture.

  Attributes:
    name: its name.
    is_mixture: whether it is a mixture; of a task, more is shown.
    tasks: its tasks.
    data: its feed.
    train_steps: length of a run, in batches.
    lengths_chosen: whether the lengths of packed rows were chosen from the data.
    fills: how full rows are, in each way of making them.
  """

  name: str
  is_mixture: bool
  tasks: tuple[InspectedTask, ...]
  data: feed.Feed
  train_steps: int
  lengths_chosen: bool
  fills: tuple[Fill, ...]

  @property
  def pairs(self) -> list[tuple[InspectedTask, Split]]:
    """The splits of all tasks, each beside its task."""
    return [pair for task in self.tasks for pair in task.pairs]


def gather(
  request: index.Request,
  mixture: index.PreparedMixture,
  definitions: Mapping[str, Any],
  train_steps: int | None,
) -> Inspection:
  """Gathers what there is to see of a prepared mixture.

  Args:
    request: what was prepared.
    mixture: the prepared mixture, with training passes.
    definitions: its `seqio.Task`s by name.
    train_steps: length of a run; None for that of `request`, or else one epoch.

  Raises:
    UserError: a store is damaged.
  """
  is_mixture = request.mixture not in definitions
  config = feed.FeedConfig(
    request.batch_size, *mixture.row_lengths, request.pack, request.seed
  )
  data = feed.Feed(mixture, config)
  tokenizer = vocabularies.Tokenizer(request.vocabulary)
  tasks = [
    _task(task, definitions[task.name], request, tokenizer, detailed=not is_mixture)
    for task in mixture.tasks
  ]
  if train_steps is None:
    train_steps = math.ceil((request.train_epochs or 1) * data.steps_per_epoch)
  chosen = request.pack and request.row_lengths is None
  fills = _fills(request, mixture, data)
  return Inspection(
    mixture.name, is_mixture, tuple(tasks), data, train_steps, chosen, fills
  )


def _task(
  prepared: index.PreparedTask, task, request, tokenizer, detailed: bool
) -> InspectedTask:
  from t5tune.data.inspection import drawn, task_descriptions

  train = token_store.TokenStore(prepared.passes[0])
  stores = [train, *map(token_store.TokenStore, prepared.splits.values())]
  shares, examples = None, []
  if detailed:
    counts = drawn.template_counts(task, request)
    if counts is not None:
      shares = {name: n / counts.total() for name, n in counts.items()}
    count = min(_EXAMPLES, len(train))
    records = np.linspace(0, len(train) - 1, count).round().astype(int).tolist()
    rows = drawn.rows(task, request, train, records)
    examples = [
      _example(record, tokens, row, tokenizer)
      for record, tokens, row in zip(records, train.read(records), rows, strict=True)
    ]
  return InspectedTask(
    task_descriptions.describe(task),
    tuple(split(store, len(prepared.passes)) for store in stores),
    shares,
    tuple(examples),
  )


def split(store: token_store.TokenStore, passes: int = 1) -> Split:
  """Returns what a store tells of the split that it was made from.

  Args:
    store: the store.
    passes: how many training passes there are.
  """
  told = store.manifest
  if told["pass"] is None:
    drawn = told["template"] or ""
  else:
    drawn = f"pass {told['pass'] + 1} of {passes}" if passes > 1 else ""
  sides = [
    Side(
      name,
      store.lengths[:, column],
      told["lengths"][name],
      *((told.get(what) or {}).get(name) for what in _OF_A_SIDE),
    )
    for column, name in enumerate(("inputs", "targets"))
  ]
  return Split(
    told["split"],
    drawn,
    told.get("rows"),
    told.get("skipped"),
    len(store),
    *sides,
    told.get("lost_characters"),
  )


_OF_A_SIDE = ("truncated", "lost_tokens", "escape")


def _example(record, tokens, row: Mapping[str, Any], tokenizer) -> Example:
  sides = [
    Text(
      name,
      len(ids),
      _decoded(row.get(f"{name}_pretokenized")),
      tokenizer.decode(ids),
    )
    for name, ids in zip(("inputs", "targets"), tokens, strict=True)
  ]
  template = _decoded(row.get("template"))
  return Example(record, template, int(row.get("shots", 0)), *sides)


def _decoded(value: Any) -> str | None:
  return value.decode("utf-8", "replace") if isinstance(value, bytes) else None


def _fills(
  request, mixture: index.PreparedMixture, data: feed.Feed
) -> tuple[Fill, ...]:
  longest = (request.input_length, request.target_length)
  lengths = data.examples.draws(0, _SAMPLE)["lengths"]
  padded = lengths.mean(axis=0) / longest
  fills = [
    Fill(
      "padded to the limits",
      False,
      ((*longest, 1.0),),
      *map(float, padded),
      float(lengths.sum(axis=1).mean() / sum(longest)),
    )
  ]
  if request.pack:
    packed = mixture.row_lengths
  else:
    packed = row_lengths.choose_row_lengths(
      mixture, longest, request.row_tokens, request.seed
    )
  ways = {
    "alike lengths together": (longest, False),
    "packed": (packed, True),
  }
  for way, (shape, pack) in ways.items():
    config = feed.FeedConfig(request.batch_size, *shape, pack, request.seed)
    summary = feed.Feed(mixture, config).summary(1)
    fills.append(
      Fill(
        way,
        pack == request.pack,
        summary.row_shapes,
        summary.input_density,
        summary.target_density,
        summary.density,
      )
    )
  return tuple(fills)

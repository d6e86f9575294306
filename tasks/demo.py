"""The demo's tasks: four small ones whose rows are generated, and their mixture.

They need neither data nor network, and a model of a few million parameters learns
them from scratch in minutes, so that a fresh machine can show the whole direction of
data: text → task → tokens → ... → metrics → report.
"""

import functools
from collections.abc import Sequence

import seqio
from t5tune.tasks import demo_data

from t5tune.data import postprocessors, registration, sources
from t5tune.data.rows import Kind
from t5tune.data.templates import Template
from t5tune.evaluation import rouge, text_metrics

# Short instructions: every token counts on two cores.
DIALOGUE_TEMPLATES = (
  Template("summarize_a_dialogue", "Summarize a dialogue: {dialogue}", "{summary}"),
  Template("what_happened", "What happened here? {dialogue}", "{summary}"),
  Template("summary_label", "{dialogue}\nSummary:", "{summary}"),
)
RATING_TEMPLATES = (
  Template("rate_a_review", "Rate this review: {review}", "{stars}"),
  Template("how_many_stars", "How many stars? {review}", "{stars}"),
  Template("stars_label", "{review}\nStars:", "{stars}"),
)
CODE_TEMPLATES = (
  Template("translate", "Translate Java to C#: {java}", "{csharp}"),
  Template("labelled", "Java: {java}\nC#:", "{csharp}"),
)
ENTITY_TEMPLATES = (
  Template("list_names", "List the names: {sentence}", "{entities}"),
  Template("who_what_where", "Who, what, where and when? {sentence}", "{entities}"),
  Template("names_label", "{sentence}\nNames:", "{entities}"),
)

Entities = Sequence[tuple[str, str]]


def entity_rouge(
  targets: Sequence[Entities], predictions: Sequence[Entities]
) -> dict[str, float]:
  """Scores lists of entities as the texts they were read from.

  Args:
    targets: (type, entity) pairs of each row.
    predictions: the same.

  Returns:
    The scores of `rouge.rouge`; no entities are the text "none".
  """

  def spelt(entities: Entities) -> str:
    return "; ".join(f"{kind}: {name}" for kind, name in entities) or "none"

  return rouge.rouge([spelt(t) for t in targets], [spelt(p) for p in predictions])


def _source(task: str, **fields: Kind) -> sources.GeneratedSource:
  def generate(split: str):
    return demo_data.rows(task, split)

  generate.__name__ = generate.__qualname__ = task
  return sources.GeneratedSource(generate, fields, tuple(demo_data.SPLITS))


for _task, _fields, _templates, _postprocess, _metrics in (
  (
    "demo_dialogue",
    {"dialogue": str, "summary": str},
    DIALOGUE_TEMPLATES,
    postprocessors.summary,
    [rouge.rouge],
  ),
  (
    "demo_rating",
    {"review": str, "stars": int},
    RATING_TEMPLATES,
    postprocessors.stars,
    [text_metrics.accuracy, text_metrics.star_error],
  ),
  (
    "demo_code",
    {"java": str, "csharp": str},
    CODE_TEMPLATES,
    functools.partial(postprocessors.from_field, name="csharp"),
    [text_metrics.bleu, text_metrics.exact_match, rouge.rouge],
  ),
  (
    "demo_entities",
    {"sentence": str, "entities": str},
    ENTITY_TEMPLATES,
    postprocessors.entities,
    [text_metrics.entity_f1, entity_rouge],
  ),
):
  registration.add(
    _task,
    _source(_task, **_fields),
    _templates,
    postprocess_fn=_postprocess,
    metric_fns=_metrics,
  )


def num_examples(task: seqio.Task) -> float:
  """Rate of a task: its training rows."""
  return float(demo_data.TRAIN_ROWS[task.name])


seqio.MixtureRegistry.add(
  "demo", tuple(demo_data.TRAIN_ROWS), default_rate=num_examples
)

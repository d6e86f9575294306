"""Tasks of a user's own, beside a gin file and outside the package."""

import difflib

import seqio

from t5tune.data import sources, templates, vocabularies
from t5tune.data.templates import Template

TITLE_TEMPLATES = (
  Template("plain", "Give this note a title: {note}", "{title}"),
  Template("after", "{note} What is a title for it?", "{title}"),
  Template("short", "Title of: {note}", "{title}"),
)
SUM_TEMPLATES = (
  Template("words", "Add {a} and {b}.", "{total}"),
  Template("signs", "{a} + {b} =", "{total}"),
)


def likeness(targets, predictions):
  """Mean share of characters in common, which is above 0 for a model of any skill."""
  pairs = list(zip(targets, predictions, strict=True))
  ratios = [difflib.SequenceMatcher(None, t, p).ratio() for t, p in pairs]
  exact = [t == p for t, p in pairs]
  return {
    "likeness": 100.0 * sum(ratios) / len(pairs),
    "exact": 100.0 * sum(exact) / len(pairs),
  }


def _add(name, dataset, fields, choices):
  seqio.TaskRegistry.add(
    name,
    source=sources.RowSource(dataset, fields=fields),
    preprocessors=[
      templates.fill(choices),
      seqio.preprocessors.tokenize,
      seqio.preprocessors.append_eos_after_trim,
    ],
    output_features=vocabularies.output_features(),
    metric_fns=[likeness],
  )


_add("tiny_titles", "notes", {"note": str, "title": str}, TITLE_TEMPLATES)
_add("tiny_sums", "sums", {"a": int, "b": int, "total": int}, SUM_TEMPLATES)
seqio.MixtureRegistry.add("tiny_mixture", [("tiny_titles", 3.0), ("tiny_sums", 1.0)])

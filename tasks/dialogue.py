"""Dialogue summarisation: `samsum` (chats) and `dialogsum` (spoken conversations).

SAMSum: Gliwa et al. 2019, https://aclanthology.org/D19-5409. DialogSum: Chen et al.
2021, https://aclanthology.org/2021.findings-acl.449; its test rows have three
references.
"""

import functools
from collections.abc import Mapping
from typing import Any

import seqio

from t5tune.data import postprocessors, preprocessors, sources, templates, vocabularies
from t5tune.data.templates import Template
from t5tune.evaluation import rouge

# Most instructions stand before the dialogue, so that one cut at the input length
# still says what is wanted.
SUMMARY_TEMPLATES = (
  Template("summarize_a_dialogue", "Summarize a dialogue.\n\n{dialogue}", "{summary}"),
  Template(
    "brief_summary",
    "Write a brief summary of the conversation below.\n\n{dialogue}\n\nSummary:",
    "{summary}",
  ),
  Template(
    "what_was_said",
    "Read this conversation and say in a few words what it was about.\n{dialogue}",
    "{summary}",
  ),
  Template(
    "missed_it",
    "I missed the following chat. Fill me in on what matters.\n\n{dialogue}",
    "{summary}",
  ),
  Template(
    "third_person",
    "Retell the exchange below in the third person, keeping only the main points."
    "\n\n{dialogue}",
    "{summary}",
  ),
  Template("label_first", "Dialogue:\n{dialogue}\n\nShort summary:", "{summary}"),
  Template(
    "minutes",
    "Take the minutes of this talk: who wants what, and what do they settle?\n\n"
    "{dialogue}",
    "{summary}",
  ),
  Template(
    "gist", "What is the gist of this conversation?\n\n{dialogue}\n\nGist:", "{summary}"
  ),
  Template(
    "outcome",
    "Here are the words of several speakers. Describe what happens between them and"
    " how it ends.\n\n{dialogue}",
    "{summary}",
  ),
  Template(
    "condense",
    "Condense the dialogue into one or two plain sentences.\n\n{dialogue}",
    "{summary}",
  ),
  Template(
    "for_a_colleague",
    "A colleague has no time to read the transcript below. Tell them what it says.\n\n"
    "Transcript:\n{dialogue}\n\nWhat it says:",
    "{summary}",
  ),
  Template("tldr", "{dialogue}\n\nTL;DR of this dialogue:", "{summary}"),
)

_REFERENCES = ("summary", "summary1", "summary2", "summary3")


def has_summary(row: Mapping[str, Any]) -> None:
  """Raises ValueError on a row of DialogSum with neither one summary nor several."""
  if not any(row[name].strip() for name in _REFERENCES):
    raise ValueError(
      "no summary: give the row `summary`, or several references as `summary1`,"
      " `summary2` and `summary3`."
    )


def _preprocessors(references: tuple[str, ...]) -> list:
  """Returns the steps of both tasks, which differ in where the references stand."""
  return [
    functools.partial(preprocessors.clean_lines, fields=("dialogue", *references)),
    functools.partial(preprocessors.collect_references, fields=references),
    templates.fill(SUMMARY_TEMPLATES),
    seqio.preprocessors.tokenize,
    seqio.preprocessors.append_eos_after_trim,
  ]


seqio.TaskRegistry.add(
  "samsum",
  source=sources.RowSource(
    "samsum",
    fields={"dialogue": str, "summary": str},
    # The published training file has this one row without a dialogue.
    leave_out={"id": ["13828807"]},
  ),
  preprocessors=_preprocessors(("summary",)),
  output_features=vocabularies.output_features(),
  postprocess_fn=postprocessors.summary,
  metric_fns=[rouge.rouge],
)

seqio.TaskRegistry.add(
  "dialogsum",
  source=sources.RowSource(
    "dialogsum",
    fields={"dialogue": str},
    optional=dict.fromkeys(_REFERENCES, str),
    check=has_summary,
  ),
  preprocessors=_preprocessors(_REFERENCES),
  output_features=vocabularies.output_features(),
  postprocess_fn=postprocessors.summary,
  metric_fns=[rouge.rouge],
)

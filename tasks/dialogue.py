"""Dialogue summarisation: `samsum` (chats) and `dialogsum` (spoken conversations).

SAMSum: Gliwa et al. 2019, https://aclanthology.org/D19-5409. DialogSum: Chen et al.
2021, https://aclanthology.org/2021.findings-acl.449; its test rows have three
references.
"""

import functools
from collections.abc import Mapping
from typing import Any

from t5tune.data import (
  cutting,
  few_shot,
  postprocessors,
  preprocessors,
  registration,
  sources,
)
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
  Template("bare", "{dialogue}\n\nSummary:", "{summary}", ("bare",)),
  Template(
    "at_most",
    "Summarize the dialogue in at most {words} words.\n\n{dialogue}",
    "{summary}",
    ("length-limited",),
  ),
  Template(
    "no_more_than",
    "{dialogue}\n\nTell what happened, in no more than {words} words:",
    "{summary}",
    ("length-limited",),
  ),
  Template(
    "write_the_dialogue",
    "Write a dialogue that this summary would fit.\n\n{summary}",
    "{dialogue}",
    ("inverted",),
  ),
  Template(
    "imagine",
    "Imagine the conversation behind these lines and write it down, with the speakers'"
    " names.\n\n{summary}",
    "{dialogue}",
    ("inverted",),
  ),
)

_REFERENCES = ("summary", "summary1", "summary2", "summary3")


def has_summary(row: Mapping[str, Any]) -> None:
  """Raises ValueError on a row of DialogSum with neither one summary nor several."""
  if not any(row[name].strip() for name in _REFERENCES):
    raise ValueError(
      "no summary: give the row `summary`, or several references as `summary1`,"
      " `summary2` and `summary3`."
    )


def _add(name: str, source: sources.RowSource, references: tuple[str, ...]) -> None:
  """Registers a task; the two differ in their source and where references stand."""
  registration.add(
    name,
    source,
    SUMMARY_TEMPLATES,
    steps=(
      functools.partial(preprocessors.clean_lines, fields=("dialogue", *references)),
      functools.partial(preprocessors.collect_references, fields=references),
      functools.partial(preprocessors.count_words, field="summary", to="words"),
    ),
    shares={"inverted": 0.1},
    cut=cutting.Cut("dialogue", "end"),
    shots=few_shot.Shots(most=2, share=0.1),
    postprocess_fn=postprocessors.summary,
    metric_fns=[rouge.rouge],
  )


_add(
  "samsum",
  sources.RowSource(
    "samsum",
    fields={"dialogue": str, "summary": str},
    # The published training file has this one row without a dialogue.
    leave_out={"id": ["13828807"]},
  ),
  references=("summary",),
)
_add(
  "dialogsum",
  sources.RowSource(
    "dialogsum",
    fields={"dialogue": str},
    optional=dict.fromkeys(_REFERENCES, str),
    check=has_summary,
  ),
  references=_REFERENCES,
)

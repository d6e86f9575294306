"""Reasoning: seven tasks answered by a chain of thought and then the answer.

The data as the FLAN collection prepared it (Longpre et al. 2023,
https://arxiv.org/abs/2301.13688). The target's last sentence is "The answer is X.",
and only X is scored: Wei et al. 2022, https://arxiv.org/abs/2201.11903.
"""

import functools

from t5tune.data import (
  few_shot,
  postprocessors,
  preprocessors,
  registration,
  sources,
)
from t5tune.data.templates import Template
from t5tune.evaluation import text_metrics

DATASETS = ("aqua", "creak", "ecqa", "gsm8k", "qasc", "sensemaking", "strategyqa")

_TARGETS = "{chain_of_thought}\nThe answer is {answer}."
_COMMON = (
  Template(
    "step_by_step", "{question}\n\nThink step by step, then give the answer.", _TARGETS
  ),
  Template("reason_first", "Reason first, then answer.\n\n{question}", _TARGETS),
  Template("labelled", "Question: {question}\nReasoning and answer:", _TARGETS),
  Template("bare", "{question}\nLet's think step by step.", _TARGETS, ("bare",)),
  Template(
    "what_was_asked",
    "{chain_of_thought} So the answer is {answer}.\n\nWhat was the question?",
    "{question}",
    ("inverted",),
  ),
  Template(
    "explain", "Explain how you arrive at your answer to this.\n\n{question}", _TARGETS
  ),
)


def _math(*own: Template) -> tuple[Template, ...]:
  """Returns the templates of a task about numbers: its own and the shared ones."""
  shared = Template(
    "show_work", "Solve the problem and show your work.\n\n{question}", _TARGETS
  )
  return (shared, *own, *_COMMON)


def _facts(*own: Template) -> tuple[Template, ...]:
  """Returns the templates of a task about the world: the shared ones and its own."""
  shared = Template(
    "what_you_know",
    "Say what you know that bears on the question, then settle it.\n\n{question}",
    _TARGETS,
  )
  return (shared, *own, *_COMMON)


REASONING_TEMPLATES = {
  "aqua": _math(
    Template(
      "pick_a_letter",
      "Work out which of the options is right and close with its letter.\n\n{question}",
      _TARGETS,
    ),
  ),
  "creak": _facts(
    Template(
      "fact_check",
      "Check this claim as an editor would: say why, then yes or no.\n\n{question}",
      _TARGETS,
    ),
  ),
  "ecqa": _facts(
    Template(
      "best_option",
      "Which option fits best? Justify your choice before you name it.\n\n{question}",
      _TARGETS,
    ),
  ),
  "gsm8k": _math(
    Template(
      "word_problem",
      "Here is a word problem. Write down each calculation and end with the number"
      " asked for.\n\n{question}",
      _TARGETS,
    ),
  ),
  "qasc": _facts(
    Template(
      "science_quiz",
      "A question from a science quiz. Link the facts that lead to one of the options"
      " and give its letter.\n\n{question}",
      _TARGETS,
    ),
  ),
  "sensemaking": _facts(
    Template(
      "odd_sentence",
      "One sentence here cannot be right. Explain what is wrong with it, then name it."
      "\n\n{question}",
      _TARGETS,
    ),
  ),
  "strategyqa": _facts(
    Template(
      "yes_or_no",
      "Break the question down into facts and conclude with yes or no.\n\n{question}",
      _TARGETS,
    ),
  ),
}

for _dataset in DATASETS:
  registration.add(
    f"cot_{_dataset}",
    sources.RowSource(
      f"cot/{_dataset}",
      fields={"question": str, "answer": str, "chain_of_thought": str},
    ),
    REASONING_TEMPLATES[_dataset],
    steps=[functools.partial(preprocessors.end_with_period, field="chain_of_thought")],
    shares={"inverted": 0.05},
    shots=few_shot.Shots(most=3, share=0.1),
    postprocess_fn=postprocessors.final_answer,
    metric_fns=[text_metrics.answer_accuracy],
  )

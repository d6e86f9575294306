"""Code translation: `java_to_cs` and `cs_to_java`.

CodeXGLUE's pairs of Java and C# methods: Lu et al. 2021,
https://arxiv.org/abs/2102.04664. T5's vocabulary has no brace and no newline, so both
sides are escaped (`escape.py`): an output can then match a reference exactly.
"""

import functools

from t5tune.data import few_shot, postprocessors, registration, sources
from t5tune.data.templates import Template
from t5tune.evaluation import text_metrics


def translation_templates(
  origin: str, origin_field: str, goal: str, goal_field: str
) -> tuple[Template, ...]:
  """Returns the templates of one direction.

  Args:
    origin: name of the language to translate from.
    origin_field: the row's field with its code.
    goal: name of the language to translate into.
    goal_field: the row's field with its code.

  Returns:
    Templates whose names are the same for both directions.
  """
  code, targets = f"{{{origin_field}}}", f"{{{goal_field}}}"
  inputs = {
    "translate": f"Translate this {origin} method to {goal}.\n\n{code}",
    "port": f"Port the following code from {origin} to {goal}:\n{code}",
    "labelled": f"{origin}:\n{code}\n\n{goal}:",
    "rewrite": f"Here is a method of a {origin} library. Rewrite it for the {goal}"
    f" version of the library.\n\n{code}",
    "equivalent": f"Which {goal} method does the same as this one in {origin}?\n\n"
    f"{code}",
    "team": f"Our team is moving from {origin} to {goal}. Convert this method and keep"
    f" its behaviour.\n\n{code}\n\nConverted:",
  }
  return tuple(
    Template(name, text, targets, ("bare",) if name == "labelled" else ("forward",))
    for name, text in inputs.items()
  )


JAVA_TO_CS_TEMPLATES = translation_templates("Java", "java", "C#", "cs")
CS_TO_JAVA_TEMPLATES = translation_templates("C#", "cs", "Java", "java")

for _name, _templates, _goal in (
  ("java_to_cs", JAVA_TO_CS_TEMPLATES, "cs"),
  ("cs_to_java", CS_TO_JAVA_TEMPLATES, "java"),
):
  registration.add(
    _name,
    sources.RowSource("java_cs", fields={"java": str, "cs": str}),
    _templates,
    escape=True,
    shots=few_shot.Shots(most=2, share=0.1),
    postprocess_fn=functools.partial(postprocessors.from_field, name=_goal),
    metric_fns=[text_metrics.bleu, text_metrics.exact_match],
  )

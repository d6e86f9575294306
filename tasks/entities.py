"""Entity recognition: `wnut17`, new and rare names in noisy posts.

WNUT 2017: Derczynski et al. 2017, https://aclanthology.org/W17-4418. Tokens with BIO
tags become a text and a readable list of its entities.
"""

import re
from collections.abc import Mapping
from typing import Any

from t5tune.data import (
  few_shot,
  postprocessors,
  preprocessors,
  registration,
  sources,
)
from t5tune.data.templates import Template
from t5tune.evaluation import text_metrics

_TYPES = "corporation, creative work, group, location, person or product"

ENTITY_TEMPLATES = (
  Template(
    "list_entities",
    "List the named entities in this post, each with its type"
    f' ({_TYPES}), or answer "none".\n\n{{text}}',
    "{entities}",
  ),
  Template(
    "find_names",
    f"Find every name of a {_TYPES} in the text below. If there is no such name, write"
    " none.\n\nText: {text}\nNames:",
    "{entities}",
  ),
  Template(
    "who_what_where",
    "Which people, places, groups, companies, products and works are named here? Give"
    " the type before each name.\n\n{text}",
    "{entities}",
  ),
  Template(
    "index",
    "Prepare index entries in the form `type: name; type: name` for this message"
    f" (types: {_TYPES}).\n{{text}}",
    "{entities}",
  ),
  Template(
    "text_first",
    "{text}\n\nNamed entities in the text above, with their types:",
    "{entities}",
  ),
  Template(
    "annotator",
    "You annotate social media posts. Mark the entities in the next one and say what"
    " kind each is.\n\nPost: {text}\nEntities:",
    "{entities}",
  ),
)


def has_bio_tags(row: Mapping[str, Any]) -> None:
  """Raises ValueError on a row whose tags do not belong to its tokens or are no BIO."""
  if len(row["tokens"]) != len(row["tags"]):
    raise ValueError(
      f"{len(row['tokens'])} tokens but {len(row['tags'])} tags: give one tag a token."
    )
  for tag in row["tags"]:
    if not re.fullmatch(r"O|[BI]-[^\W\d_][\w-]*", tag):
      raise ValueError(
        f"field 'tags' has {tag!r}: tags are O, B-type or I-type, such as B-person."
      )


registration.add(
  "wnut17",
  sources.RowSource(
    "wnut17", fields={"tokens": list[str], "tags": list[str]}, check=has_bio_tags
  ),
  ENTITY_TEMPLATES,
  steps=[preprocessors.spell_entities],
  shots=few_shot.Shots(most=3, share=0.1),
  postprocess_fn=postprocessors.entities,
  metric_fns=[text_metrics.entity_f1],
)

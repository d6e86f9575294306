"""Review rating: `sst5`, film reviews with one to five stars.

The sentences of the Stanford Sentiment Treebank with their five classes: Socher et
al. 2013, https://aclanthology.org/D13-1170.
"""

import functools
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

RATING_TEMPLATES = (
  Template(
    "rate_a_review",
    "Rate this film review from 1 star (worst) to 5 stars (best).\n\n{text}\n\nStars:",
    "{stars}",
  ),
  Template(
    "how_many_stars",
    "How many stars, from 1 to 5, would the author of this sentence give the film?"
    "\n{text}",
    "{stars}",
  ),
  Template(
    "scale_spelt_out",
    "Judge how the writer felt: 1 is very negative, 2 negative, 3 neutral, 4 positive,"
    " 5 very positive.\n\nReview: {text}\nFeeling:",
    "{stars}",
  ),
  Template(
    "missing_score",
    "The score of this review got lost. Restore it as a number between 1 and 5.\n\n"
    "{text}",
    "{stars}",
  ),
  Template("review_first", "{text}\n\nStars out of five:", "{stars}"),
  Template(
    "critic",
    'A critic wrote: "{text}"\nOn a scale of one to five, how much did the critic like'
    " the film? Answer with a digit.",
    "{stars}",
  ),
  Template(
    "aggregator",
    "You run a site that turns reviews into star ratings (1-5). Which rating does this"
    " one get?\n\n{text}",
    "{stars}",
  ),
  Template(
    "choose",
    "{text}\n\nWhich of these ratings did the author give?\n\n{options}",
    "{stars}",
  ),
  Template("bare", "{text}\n\n{options}", "{stars}", ("bare",)),
  Template(
    "write_a_review",
    "Write a sentence from the review of a film that got {stars} out of 5 stars.",
    "{text}",
    ("inverted",),
  ),
)


def has_rating(row: Mapping[str, Any]) -> None:
  """Raises ValueError on a row whose stars are not one to five."""
  if row["stars"] not in postprocessors.STARS:
    raise ValueError(f"field 'stars' is {row['stars']}: ratings go from 1 to 5.")


registration.add(
  "sst5",
  sources.RowSource("sst5", fields={"text": str, "stars": int}, check=has_rating),
  RATING_TEMPLATES,
  steps=[
    functools.partial(
      preprocessors.add_options, choices=[str(n) for n in postprocessors.STARS]
    )
  ],
  shares={"inverted": 0.05},
  shots=few_shot.Shots(most=5, share=0.1),
  postprocess_fn=postprocessors.stars,
  metric_fns=[text_metrics.accuracy, text_metrics.star_error],
)

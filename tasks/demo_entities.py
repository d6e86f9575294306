"""Generates the demo's sentences with the people, places, ... they name.

Before the first stage of the direction of data (text → task → tokens → ...).
"""

import re

from t5tune.tasks.demo_grammar import SLOT, Draw, Pool
from t5tune.tasks.demo_names import (
  COMPANY_KINDS,
  COMPANY_STEMS,
  FIRST_NAMES,
  LAST_NAMES,
  PLACES,
  PRODUCT_KINDS,
  PRODUCT_STEMS,
)

# "{person}", "{place}", ... stand for names to be found; a number tells two apart.
SENTENCES = (
  "{person} [joined|left|has joined] {company} on {date}.",
  "{person} [flew|moved|travelled] [from {place} ][to|back to] {place2} on {date}.",
  "{company} [opened|closed|has sold] its [office|factory|store] in {place}.",
  "{company} [unveiled|presented|showed] the {product}[ in {place}| on {date}|].",
  "[Customers|Visitors] in {place} [queued|waited] for the {product}.",
  "[We met|I ran into|They spoke to] {person} [in {place}|on {date}|again].",
  "[Our|The] [meeting|workshop] with {company} [is|was moved] [to|on] {date}.",
  "{person} [bought|sold|repaired] [a|the] {product}[ in {place}| on {date}|].",
  "{company} [named|appointed|fired] {person} as [director|head of sales].",
  "{person} and {person2} [founded|run] [a company|a school] in {place}.",
  "[The train|A bus|The ferry] from {place} to {place2} [was late|stopped] on {date}.",
  "[Reviewers|Readers] [liked|praised|disliked] the {product} by {company}.",
  "{company} [will buy|sued|outbid] {company2}[ on {date}|].",
  "[It rained|It snowed|The power failed] in {place} on {date}.",
  "[Why did|When will|How could] {person} [leave|visit|forget] {place}?",
  "[My|Her|His] [neighbour|teacher|doctor] {person} [grew up|lives] in {place}.",
  "On {date} the [mayor|people] of {place} [thanked|welcomed] {person}.",
  "The {product} [is cheaper|weighs more|sells better] than the {product2}.",
  "[Nobody|Everybody] at {company} [knew|believed|remembered] {person}.",
  "[Shares|Profits] of {company} [fell|rose] on {date}.",
  "[Please|Do not] [call|email|ask] {person} [before|after|about] {date}.",
  "{person} [forgot|dropped|lost] the {product} [on the way to|in] {place}.",
  "[A spokesman|A lawyer] for {company} in {place} [declined|refused] to comment.",
  "[Engineers|Workers] at {company} [built|tested] the {product} in {place}.",
)
NOTHING_NAMED = (
  "[The|My|Their] {object} [needs|got] [a new coat of paint|some repair].",
  "[We|They] [cleaned|moved|sold] the {object} [yesterday|this morning|again].",
  "[Nobody|Somebody] [saw|touched|wanted] the [old|new|broken] {object}.",
  "[Is|Was] the {object} [still|already] [there|outside|for sale]?",
)
OBJECTS = Pool.of(
  """barn, bench, boat, bridge, cupboard, curtain, door, fence, fountain, gate,
  hedge, ladder, piano, porch, roof, shelf, stove, tower, tractor, window""",
  "balcony, chimney, hammock, mailbox, pavilion",
)
MONTHS = (
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
)
WEEKDAYS = (
  "Monday",
  "Tuesday",
  "Wednesday",
  "Thursday",
  "Friday",
  "Saturday",
  "Sunday",
)
NOTHING_SHARE = 0.06


def _date(draw: Draw) -> str:
  day_and_month = f"{draw.rng.randint(1, 28)} {draw.choice(MONTHS)}"
  year = draw.rng.randint(1990, 2025)
  return draw.choice((day_and_month, f"{day_and_month} {year}", draw.choice(WEEKDAYS)))


NAMES = {
  "person": lambda draw: f"{draw.value(FIRST_NAMES)} {draw.value(LAST_NAMES)}",
  "place": lambda draw: draw.value(PLACES),
  "company": lambda draw: f"{draw.value(COMPANY_STEMS)} {draw.choice(COMPANY_KINDS)}",
  "product": lambda draw: f"{draw.value(PRODUCT_STEMS)} {draw.choice(PRODUCT_KINDS)}",
  "date": _date,
}


def example(draw: Draw) -> dict[str, str]:
  """Returns one row: `sentence` and its `entities` in order, or "none"."""
  if draw.chance(NOTHING_SHARE):
    pattern = draw.choice(NOTHING_NAMED)
    return {
      "sentence": draw.phrase(pattern, object=draw.value(OBJECTS)),
      "entities": "none",
    }
  found: list[str] = []

  def name(slot: re.Match) -> str:
    kind = slot[1].rstrip("2")
    value = NAMES[kind](draw)
    found.append(f"{kind}: {value}")
    return value

  sentence = SLOT.sub(name, draw.settle(draw.choice(SENTENCES)))
  return {"sentence": sentence, "entities": "; ".join(found)}

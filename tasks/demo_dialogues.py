"""Generates the demo's dialogues between customers and agents, with summaries.

Before the first stage of the direction of data (text → task → tokens → ...). A
summary follows from five things its dialogue says: domain, issue, slot value,
action and outcome. The outcome decides the summary's sentence structure.
"""

import dataclasses

from t5tune.tasks import demo_domains_home, demo_domains_travel
from t5tune.tasks.demo_grammar import Draw
from t5tune.tasks.demo_names import FIRST_NAMES, LAST_NAMES

DOMAINS = demo_domains_home.DOMAINS + demo_domains_travel.DOMAINS


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How a customer takes what the agent offers.

  Attributes:
    says: the customer's last words.
    summary: the pattern of the summary.
  """

  says: tuple[str, ...]
  summary: str


GLAD = Outcome(
  (
    "[Great|Wonderful|Perfect], [thank you so much|thanks a lot]!",
    "[Thank you|Thanks], that is [very kind|exactly what I hoped for].",
    "You [are a star|saved my day], [thank you|thanks]!",
  ),
  "{clause}. The {agent} {does}, and {name} is delighted.",
)
SETTLES = Outcome(
  (
    "[Fine|All right|Well], [that will do|I can live with that].",
    "It is not [ideal|much], but [I accept|it will do].",
    "[Hmm|Well], [better than nothing|if there is no other way].",
  ),
  "{name} reports {noun} and reluctantly settles for {offer}.",
)
ESCALATES = Outcome(
  (
    "[No|Sorry], [get me|I want to speak to] your [manager|boss].",
    "That is [not enough|a joke]. [Where is|Call] your [manager|boss]!",
  ),
  "Because {clause}, {name} rejects {offer} and demands the manager.",
)
LEAVES = Outcome(
  (
    "[Forget it|No], [I am|we are] going to another {place}.",
    "[Too late|No thanks], I will never use this {place} again.",
    "[Keep it|Never]. From now on I will choose a [different|better] {place}.",
  ),
  "Angry about {noun}, {name} turns down {offer} and will try another {place}.",
)
UNDECIDED = Outcome(
  (
    "[Let me|I have to] think about it [first|overnight].",
    "I am not sure. [May I|Can I] [decide|tell you] [tomorrow|later]?",
    "[Hmm|Well], I will ask my [wife|husband|brother] and call back.",
  ),
  "The {agent} proposes {offer} after hearing of {noun}; {name} has yet to decide.",
)
OUTCOMES = (GLAD, SETTLES, ESCALATES, LEAVES, UNDECIDED)

GREETING = "[Hello|Good morning|Welcome], [how can I help|what can I do for you]?"
HELLO = ("", "", "[Hi|Hello|Excuse me]. ")
SORRY = "[I am sorry|I apologise|Oh dear]. "
CHOICE = "[I can offer {first} or {second}.|Would {first} or {second} help?]"
CONFIRMATION = "[Of course|Certainly], [I will see to it|consider it done]."
CODE_LETTERS = "ABCDEFGHKLMNPRSTUVWXYZ"


def example(draw: Draw) -> dict[str, str]:
  """Returns one row: `dialogue`, a turn a line, and its `summary`."""
  domain = draw.choice(DOMAINS)
  issue = draw.choice(domain.issues)
  name = draw.value(FIRST_NAMES)
  thing = draw.value(domain.thing)
  action = domain.actions[draw.choice(issue.actions)]
  outcome = draw.choice(OUTCOMES)
  slots = {
    "thing": thing,
    "a_thing": ("an " if thing[0] in "aeiou" else "a ") + thing,
    "place": domain.place,
    "agent": domain.agent.lower(),
    "name": name,
  }
  complaint = draw.phrase(draw.choice(HELLO)) + draw.phrase(
    draw.choice(issue.says), **slots
  )
  ending = draw.phrase(draw.choice(outcome.says), **slots)

  agent, customer = domain.agent, name
  turns = [(customer, complaint)]
  if draw.chance(0.4):
    turns.insert(0, (agent, draw.phrase(GREETING)))
  if draw.chance(0.5):
    turns.append((agent, draw.phrase(SORRY + domain.asks)))
    turns.append((customer, draw.phrase(domain.gives, **_details(draw))))
  others = [domain.actions[key] for key in issue.actions]
  others.remove(action)
  if outcome in (GLAD, SETTLES) and others and draw.chance(0.35):
    offers = [action.offer, draw.choice(others).offer]
    draw.rng.shuffle(offers)
    turns.append((agent, draw.phrase(CHOICE, first=offers[0], second=offers[1])))
    turns.append((customer, draw.phrase(action.asks)))
    turns.append((agent, draw.phrase(CONFIRMATION)))
  else:
    turns.append((agent, draw.phrase(draw.choice(("", SORRY)) + action.says)))
  turns.append((customer, ending))

  slots |= {
    "clause": draw.phrase(issue.clause, **slots),
    "noun": draw.phrase(issue.noun, **slots),
    "does": action.does,
    "offer": action.offer,
  }
  summary = draw.phrase(outcome.summary, **slots)
  dialogue = "\n".join(f"{speaker}: {text}" for speaker, text in turns)
  return {"dialogue": dialogue, "summary": summary}


def _details(draw: Draw) -> dict[str, str]:
  """Returns numbers and codes an agent may ask for; no summary mentions them."""
  digits = "".join(draw.choice("0123456789") for _ in range(4))
  return {
    "number": str(draw.rng.randint(10000, 99999)),
    "digits": digits,
    "day": str(draw.rng.randint(4, 20)),
    "code": "".join(draw.choice(CODE_LETTERS) for _ in range(2)) + digits[:2],
    "surname": draw.value(LAST_NAMES),
  }

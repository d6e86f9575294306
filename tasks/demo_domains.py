"""The form of a domain of the demo's dialogues: complaints and what is offered.

`demo_domains_home` and `demo_domains_travel` hold the domains, `demo_dialogues`
reads them. "{thing}" is a domain's slot, "{a_thing}" the same with its article;
"[this|that]" are alternatives.
"""

import dataclasses

from t5tune.tasks.demo_grammar import Pool


@dataclasses.dataclass(frozen=True)
class Action:
  """What the agent can do about an issue.

  Attributes:
    says: what the agent says when doing it.
    asks: what a customer says who asks for it.
    does: the summary's verb phrase, which has the agent as its subject.
    offer: the summary's noun phrase.
  """

  says: str
  asks: str
  does: str
  offer: str


@dataclasses.dataclass(frozen=True)
class Issue:
  """What the customer complains of.

  Attributes:
    says: the customer's openings.
    clause: the summary's clause.
    noun: the summary's noun phrase.
    actions: names of the domain's actions that make sense here.
  """

  says: tuple[str, ...]
  clause: str
  noun: str
  actions: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Domain:
  """One kind of business.

  Attributes:
    agent: the agent's speaker label.
    place: what the customer may leave for another one of.
    thing: what the dialogues are about.
    asks: the agent's question for a detail.
    gives: the customer's answer.
    actions: by name.
    issues: all of them.
  """

  agent: str
  place: str
  thing: Pool
  asks: str
  gives: str
  actions: dict[str, Action]
  issues: tuple[Issue, ...]

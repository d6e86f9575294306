"""Pairs of sources that differ in one place and must not have one fingerprint."""

import re

HEAD = "import dataclasses, decimal, enum, functools, itertools, operator, os, re\n"
# What is called: `pipeline` -> `step` -> `helper` -> `leaf`, which a case defines.
CHAIN = """
def helper(x):
  return leaf(x)

class Step:
  def __call__(self, x):
    return [helper(y) for y in x]

step = Step()

def pipeline(x):
  return step(x)
"""
# Each holds a choice between two texts: ‹one|other›.
CHANGES = {
  "constant": "def leaf(x):\n  return x + '‹a|b›'",
  "global constant": "C = '‹a|b›'\ndef leaf(x):\n  return x + C",
  "operator": "def leaf(x):\n  return x ‹+|-› 1",
  "name": "def leaf(x):\n  return x.‹strip|lstrip›()",
  "default": "def leaf(x, y=‹1|2›):\n  return x + y",
  "keyword default": "def leaf(x, *, y=‹1|2›):\n  return x + y",
  "order of parameters": "def leaf(‹a, b|b, a›):\n  return ‹a - b|b - a›",
  "closure": "def make(y):\n  return lambda x: x + y\nleaf = make(‹1|2›)",
  "partial": "def add(x, y):\n  return x + y\nleaf = functools.partial(add, y=‹1|2›)",
  "lambda": "leaf = lambda x: x + ‹1|2›",
  "text in a comprehension": "def leaf(x):\n  return [y + '‹a|b›' for y in x]",
  "text in a generator": "def leaf(x):\n  return list(y + '‹a|b›' for y in x)",
  "inner function": "def leaf(x):\n  def inner():\n    return x + '‹a|b›'\n  return inner()",
  "set in a test": "def leaf(x):\n  return x in {'u', '‹a|b›'}",
  "what except covers": "def leaf(x):\n  try:\n    y = x()\n‹    z = y()\n|›"
  "  except ValueError:\n    z = 0\n‹|  else:\n    z = y()\n›  return z",
  "pattern": "P = re.compile('‹a|b›')\ndef leaf(x):\n  return P.sub('', x)",
  "flag of a pattern": "P = re.compile('a'‹|, re.I›)\ndef leaf(x):\n  return P.sub('', x)",
  "method of str": "leaf = str.‹lower|upper›",
  "bound method of dict": "leaf = {'u': '‹a|b›'}.get",
  "itemgetter": "leaf = operator.itemgetter('‹a|b›')",
  "order of replacements": "R = {‹'u': 'v', 'v': 'w'|'v': 'w', 'u': 'v'›}\n"
  "def leaf(x):\n  return functools.reduce(lambda x, r: x.replace(*r), R.items(), x)",
  "key": "R = {‹1|'1'›: 'u'}\ndef leaf(x):\n  return R.get(x)",
  "enum": "class E(enum.Enum):\n  A = '‹a|b›'\ndef leaf(x):\n  return x + E.A.value",
  "decimal": "D = decimal.Decimal('‹1|2›')\ndef leaf(x):\n  return x + D",
  "class attribute": "class C:\n  P = '‹a|b›'\n  def __call__(self, x):\n"
  "    return self.P + x\nleaf = C()",
  "base class": "class B:\n  def p(self):\n    return '‹a|b›'\nclass C(B):\n"
  "  def __call__(self, x):\n    return self.p() + x\nleaf = C()",
  "property": "class C:\n  @property\n  def p(self):\n    return '‹a|b›'\n"
  "def leaf(x):\n  return C().p + x",
  "static method": "class C:\n  @staticmethod\n  def p(x):\n    return x + '‹a|b›'\n"
  "leaf = C.p",
  "instance": "class C:\n  def __init__(self, p):\n    self.p = p\n"
  "  def __call__(self, x):\n    return self.p + x\nleaf = C('‹a|b›')",
  "dataclass": "@dataclasses.dataclass(frozen=True)\nclass T:\n  text: str\n"
  "ALL = (T('u'), T('‹a|b›'))\ndef leaf(x):\n  return ALL[x].text",
  "dataclass with slots": "@dataclasses.dataclass(frozen=True, slots=True)\nclass T:\n"
  "  text: str\nALL = [T('u'), T('‹a|b›')]\ndef leaf(x):\n  return ALL[x].text",
  "member of a set": "def f(x):\n  return 1\ndef g(x):\n  return ‹2|3›\nS = {f, g}\n"
  "def leaf(x):\n  return [h(x) for h in S]",
  "decorated": "def twice(f):\n  @functools.wraps(f)\n  def inner(x):\n"
  "    return f(f(x))\n  return inner\n@twice\ndef leaf(x):\n  return x + ‹1|2›",
  "cached": "@functools.cache\ndef leaf(x):\n  return x + ‹1|2›",
  "builtin module": "def leaf(x):\n  return list(itertools.chain(x, '‹a|b›'))",
  "inside an object that hides it": "import types\n"
  "N = types.SimpleNamespace(p=decimal.Decimal('‹1|2›'))\ndef leaf(x):\n  return N.p",
  "function of a builtin module": "import math\nleaf = math.‹floor|ceil›",
}


def variants(case: str) -> list[str]:
  """Returns the sources of a case with the first and with the second choice."""
  return [
    HEAD + re.sub("‹(.*?)\\|(.*?)›", rf"\g<{side}>", case, flags=re.DOTALL) + CHAIN
    for side in (1, 2)
  ]

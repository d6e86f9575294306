"""Generates the demo's Java methods with their translation to C#.

Before the first stage of the direction of data (text → task → tokens → ...).
Each form is a pair of patterns that differ as the two languages do: capitalised
methods, properties for getters, `foreach`, `string`, `Console.WriteLine`, ...
Brackets in code are code, so alternatives are drawn as slots here.
"""

import string

from t5tune.tasks.demo_grammar import Draw, Pool

NOUNS = Pool.of(
  """account, answer, author, balance, bill, block, book, bucket,
  buffer, button, camera, channel, chapter, client, column, comment, contract,
  counter, course, cursor, device, driver, engine, factor, field,
  file, filter, folder, frame, friend, graph, group, guest, height, image,   invoice, item, journal, kernel, label, ladder, layer, lesson, letter, limit, link,
  list, machine, margin, marker, member, menu, message, model, module,
  number, office, option, order, owner, packet, page, panel, parcel, path, payment,
  phone, pixel, player, point, price, printer, product, profile, project,
  region, report, request, result, reward, route, sample,
  score, screen, section, server, shape, signal, source, stage, station,
  street, student, style, symbol, table, target, task, teacher, ticket, timer,
  token, topic, track, user, value, vector, vendor, version, weight, window, worker""",
  """anchor, basket, bridge, candle, garden, harbor, island, magnet, orbit, pencil,
  planet, rocket, season, teapot, tunnel, valley, voucher, wagon""",
)
ADJECTIVES = Pool.of(
  """active, basic, best, current, daily, empty, extra, first, full,
  global, hidden, inner, last, left, local, lower, main, maximum, minimum,   next, old, open, outer, primary, random, recent, remote, right, safe,
  second, shared, single, small, sorted, spare, top, total, upper, valid""",
  "cheap, clever, frozen, narrow, quiet, secret, sticky, yellow",
)
VERBS = (
  """accept build check clear close compute convert copy count create delete find
  handle load merge move notify open parse read register reset save scan select send
  show start stop store update validate visit write"""
).split()
# Java type: its class in generics, its C# name.
TYPES = {
  "int": ("Integer", "int"),
  "long": ("Long", "long"),
  "double": ("Double", "double"),
  "boolean": ("Boolean", "bool"),
  "String": ("String", "string"),
}
TEXT_METHODS = (
  ("toUpperCase", "ToUpper"),
  ("toLowerCase", "ToLower"),
  ("trim", "Trim"),
)
BOUNDS = (("max", "Max"), ("min", "Min"))
EXCEPTIONS = (
  ("IllegalArgumentException", "ArgumentException"),
  ("IllegalStateException", "InvalidOperationException"),
  ("UnsupportedOperationException", "NotSupportedException"),
)
# Java, C#. Both sides get the same slots; `$access` is a visibility.
FORMS = (
  (
    "$access $type get$Field() { return $field; }",
    "$access $sharp $Field => $field;",
  ),
  (
    "$access boolean is$Adjective() { return $adjective; }",
    "$access bool Is$Adjective => $adjective;",
  ),
  (
    "$access void set$Field($type $field) { this.$field = $field; }",
    "$access void Set$Field($sharp $field) { this.$field = $field; }",
  ),
  (
    "$access int $verb${Class}s() { return ${thing}s.size(); }",
    "$access int $Verb${Class}s() { return ${thing}s.Count; }",
  ),
  (
    '$access void print$Field() { System.out.println("$thing: " + $field); }',
    '$access void Print$Field() { Console.WriteLine("$thing: " + $field); }',
  ),
  (
    "$access void $verb${Class}s() { for ($Class $thing : ${thing}s) "
    "{ $thing.$other_verb(); } }",
    "$access void $Verb${Class}s() { foreach ($Class $thing in ${thing}s) "
    "{ $thing.$OtherVerb(); } }",
  ),
  (
    "$access void add$Class($Class $thing) { ${thing}s.add($thing); }",
    "$access void Add$Class($Class $thing) { ${thing}s.Add($thing); }",
  ),
  (
    "$access $type $verb$Field(String $thing) { return ${thing}s.get($thing); }",
    "$access $sharp $Verb$Field(string $thing) { return ${thing}s[$thing]; }",
  ),
  (
    "$access boolean has$Class(int id) { return ${thing}s.containsKey(id); }",
    "$access bool Has$Class(int id) { return ${thing}s.ContainsKey(id); }",
  ),
  (
    "$access void $verb$Class($Class $thing) { if ($thing == null) "
    '{ throw new $exception("no $thing"); } }',
    "$access void $Verb$Class($Class $thing) { if ($thing == null) "
    '{ throw new $SharpException("no $thing"); } }',
  ),
  (
    "$access boolean is$Adjective(String $thing) { return $thing.length() > $limit; }",
    "$access bool Is$Adjective(string $thing) { return $thing.Length > $limit; }",
  ),
  (
    "$access String $verb$Field(String $field) { return $field.$text_method(); }",
    "$access string $Verb$Field(string $field) { return $field.$TextMethod(); }",
  ),
  (
    "$access boolean same$Class(String $thing) { return $field.equals($thing); }",
    "$access bool Same$Class(string $thing) { return $field == $thing; }",
  ),
  (
    "$access class $Class extends $Field { private $type $thing; }",
    "$access class $Class : $Field { private $sharp $thing; }",
  ),
  (
    "$access $Class($type $field) { super($field); this.$thing = null; }",
    "$access $Class($sharp $field) : base($field) { this.$thing = null; }",
  ),
  (
    '@Override public String toString() { return "$thing " + $field; }',
    'public override string ToString() { return "$thing " + $field; }',
  ),
  (
    "private List<$boxed> ${field}s = new ArrayList<>();",
    "private List<$sharp> ${field}s = new List<$sharp>();",
  ),
  (
    "private Map<$boxed, $Class> ${field}s = new HashMap<>();",
    "private Dictionary<$sharp, $Class> ${field}s = new Dictionary<$sharp, $Class>();",
  ),
  (
    "$access boolean $verb$Field(Object $thing) { return $thing instanceof $Class; }",
    "$access bool $Verb$Field(object $thing) { return $thing is $Class; }",
  ),
  (
    "$access int $verb$Field(int $thing) { return Math.$bound($field, $thing); }",
    "$access int $Verb$Field(int $thing) { return Math.$Bound($field, $thing); }",
  ),
  (
    "$access int $verb$Class(String $field) { return Integer.parseInt($field); }",
    "$access int $Verb$Class(string $field) { return int.Parse($field); }",
  ),
  (
    "$access void $verb${Class}s() { Collections.sort(${field}s); }",
    "$access void $Verb${Class}s() { ${field}s.Sort(); }",
  ),
  (
    "$access void $verb$Class() { try { $field.$other_verb(); } "
    "finally { $thing.close(); } }",
    "$access void $Verb$Class() { try { $field.$OtherVerb(); } "
    "finally { $thing.Close(); } }",
  ),
)


def _capitalised(identifier: str) -> str:
  return identifier[0].upper() + identifier[1:]


def _slots(draw: Draw) -> dict[str, str]:
  """Returns a value for every slot of `FORMS`."""
  thing, noun = draw.value(NOUNS), draw.value(NOUNS)
  adjective = draw.value(ADJECTIVES)
  field = adjective + _capitalised(noun) if draw.chance(0.5) else noun
  verb, other_verb = draw.choice(VERBS), draw.choice(VERBS)
  java_type = draw.choice(tuple(TYPES))
  boxed, sharp = TYPES[java_type]
  exception, sharp_exception = draw.choice(EXCEPTIONS)
  text_method, sharp_text_method = draw.choice(TEXT_METHODS)
  bound, sharp_bound = draw.choice(BOUNDS)
  return {
    "access": draw.choice(("public", "protected", "private")),
    "type": java_type,
    "boxed": boxed,
    "sharp": sharp,
    "thing": thing,
    "Class": _capitalised(thing),
    "field": field,
    "Field": _capitalised(field),
    "adjective": adjective,
    "Adjective": _capitalised(adjective),
    "verb": verb,
    "Verb": _capitalised(verb),
    "other_verb": other_verb,
    "OtherVerb": _capitalised(other_verb),
    "exception": exception,
    "SharpException": sharp_exception,
    "text_method": text_method,
    "TextMethod": sharp_text_method,
    "bound": bound,
    "Bound": sharp_bound,
    "limit": str(draw.rng.randint(1, 99)),
  }


def example(draw: Draw) -> dict[str, str]:
  """Returns one row: `java` and its translation `csharp`, each on one line."""
  java, csharp = draw.choice(FORMS)
  slots = _slots(draw)
  return {
    "java": string.Template(java).substitute(slots),
    "csharp": string.Template(csharp).substitute(slots),
  }

"""Generates the demo's product reviews with one to five stars.

Before the first stage of the direction of data (text → task → tokens → ...). A
review makes two statements about a product, each worth +2, +1, -1 or -2; their sum
decides the stars, so that no single word does: "the sound is a bit thin" stands in
reviews of one, two, three and four stars.
"""

from t5tune.tasks.demo_grammar import Draw, Pool

# Aspect: what is good to say of it | what is bad to say of it.
ASPECTS = {
  "battery": "durable, reliable, powerful | weak, unreliable, heavy",
  "button": "responsive, solid, smooth | stiff, loose, wobbly",
  "case": "elegant, solid, slim | ugly, flimsy, bulky",
  "colour": "lovely, bright, stylish | dull, ugly, faded",
  "delivery": "quick, punctual, careful | slow, late, careless",
  "design": "elegant, stylish, clever | dull, ugly, clumsy",
  "fabric": "soft, warm, durable | scratchy, thin, rough",
  "handle": "comfortable, solid, soft | slippery, wobbly, rough",
  "lid": "tight, solid, smooth | loose, leaky, wobbly",
  "manual": "clear, helpful, detailed | confusing, vague, useless",
  "motor": "quiet, powerful, reliable | loud, weak, unreliable",
  "packaging": "neat, careful, clever | torn, careless, wasteful",
  "price": "fair, reasonable, attractive | steep, excessive, unfair",
  "screen": "sharp, bright, responsive | blurry, dim, slow",
  "service": "friendly, helpful, quick | rude, slow, useless",
  "smell": "pleasant, fresh, lovely | nasty, stale, strange",
  "sound": "clear, rich, warm | thin, tinny, muffled",
  "strap": "comfortable, soft, durable | stiff, flimsy, scratchy",
  "taste": "fresh, rich, pleasant | bitter, stale, strange",
  "zip": "smooth, solid, reliable | stiff, leaky, flimsy",
}
GOOD = {a: words.split(" | ")[0].split(", ") for a, words in ASPECTS.items()}
BAD = {a: words.split(" | ")[1].split(", ") for a, words in ASPECTS.items()}

# What products of a kind have; "delivery", "price", "service", "design", "packaging"
# and "colour" are what anything has.
COMMON = ("delivery", "price", "service", "design", "packaging", "colour")
KINDS = (
  (
    ("battery", "button", "screen", "sound", "manual", "case"),
    Pool.of(
      "alarm clock, camera, dictaphone, headset, laptop, navigator, phone, radio, "
      "smartwatch, speaker, tablet, television",
      "projector, keyboard, turntable, webcam",
    ),
  ),
  (
    ("motor", "handle", "manual", "button", "lid", "battery"),
    Pool.of(
      "blender, coffee grinder, drill, food processor, hair dryer, lawn mower, mixer, "
      "shaver, toothbrush, vacuum cleaner",
      "juicer, chainsaw, sander",
    ),
  ),
  (
    ("fabric", "zip", "strap", "smell"),
    Pool.of(
      "apron, backpack, coat, dress, handbag, jacket, raincoat, sleeping bag, "
      "suitcase, tent, toiletry bag",
      "poncho, duffel, cardigan",
    ),
  ),
  (
    ("taste", "smell", "lid"),
    Pool.of(
      "chocolate, coffee, cookie tin, granola, herbal tea, honey, jam, lemonade, "
      "olive oil, peanut butter, tomato sauce",
      "marmalade, mustard, oatmeal",
    ),
  ),
)

STATEMENTS = {
  2: (
    "the {aspect} is [absolutely|wonderfully|extremely] {good}",
    "I [love|adore] how {good} the {aspect} is",
    "the {aspect} could hardly be more {good}",
  ),
  1: (
    "the {aspect} is [pretty|quite|rather] {good}",
    "the {aspect} is {good} enough",
    "the {aspect} is not {bad} at all",
  ),
  -1: (
    "the {aspect} is [a bit|somewhat|slightly] {bad}",
    "the {aspect} could be more {good}",
    "the {aspect} is not very {good}",
  ),
  -2: (
    "the {aspect} is [terribly|awfully|unbearably] {bad}",
    "I [hate|cannot stand] how {bad} the {aspect} is",
    "the {aspect} could hardly be more {bad}",
  ),
}
# Pairs of statement values by stars.
VALUES = {
  5: ((2, 2), (2, 1), (1, 2)),
  4: ((1, 1), (2, -1), (-1, 2)),
  3: ((1, -1), (-1, 1), (2, -2), (-2, 2)),
  2: ((-1, -1), (-2, 1), (1, -2)),
  1: ((-2, -2), (-2, -1), (-1, -2)),
}
JOINED = {
  True: "{first}[ and |. Also, ]{second}.",
  False: "{first}[, but |, although |. Still, ]{second}.",
}
OPENINGS = (
  "",
  "I [bought|ordered] this {product} [in May|last month|for my {relative}]. ",
  "[My {relative} gave me this {product}|I have had this {product} for a year]. ",
)
CLOSINGS = (
  "",
  "",
  " [That is all I can say so far|I will write again in a month].",
  " My {relative} [bought the same one|asked me about it].",
)
RELATIVES = ("aunt", "brother", "cousin", "daughter", "father", "mother", "sister")


def example(draw: Draw) -> dict[str, str | int]:
  """Returns one row: `review` and its `stars`, 1 to 5."""
  own, products = draw.choice(KINDS)
  stars = draw.choice(tuple(VALUES))
  values = draw.choice(VALUES[stars])
  # Half of the statements speak of what only products of this kind have.
  aspects = draw.rng.sample([*own, *draw.rng.sample(COMMON, len(own))], 2)
  first, second = (
    draw.phrase(
      draw.choice(STATEMENTS[value]),
      aspect=aspect,
      good=draw.choice(GOOD[aspect]),
      bad=draw.choice(BAD[aspect]),
    )
    for value, aspect in zip(values, aspects, strict=True)
  )
  slots = {"product": draw.value(products), "relative": draw.choice(RELATIVES)}
  opening = draw.phrase(draw.choice(OPENINGS), **slots)
  joined = JOINED[values[0] * values[1] > 0]
  statements = draw.phrase(joined, first=first, second=second)
  closing = draw.phrase(draw.choice(CLOSINGS), **slots)
  return {"review": opening + statements + closing, "stars": stars}

"""Complaints to a shop, an internet provider, a bank and a library. Data alone."""

from t5tune.tasks.demo_domains import Action, Domain, Issue
from t5tune.tasks.demo_grammar import Pool

SHOP = Domain(
  agent="Agent",
  place="shop",
  thing=Pool.of(
    """armchair, backpack, blender, bookcase, carpet, coat, desk, fan, guitar,
    heater, iron, jacket, kettle, keyboard, lamp, mattress, mirror, mixer, printer,
    radio, rug, sofa, suitcase, table, teapot, tent, toaster, umbrella, vase,
    wardrobe""",
    "bicycle, clock, drone, freezer, helmet, stroller, telescope, wallet",
  ),
  asks="[What is|May I have|Could you tell me] the order number?",
  gives="[It is|The number is|That would be] {number}.",
  actions={
    "replace": Action(
      "[A new one|A replacement] [will leave our warehouse|will be sent] "
      "[today|tomorrow].",
      "I would [like|prefer] a new one, please.",
      "ships a replacement",
      "a replacement",
    ),
    "refund": Action(
      "[I have just refunded|I will refund] the [full price|whole amount].",
      "I would [rather have|like] my money back.",
      "refunds the price",
      "a full refund",
    ),
    "voucher": Action(
      "[I can offer you|Please accept] a [ten|twenty|thirty] euro voucher.",
      "The voucher [sounds|is] fine.",
      "hands out a voucher",
      "a voucher",
    ),
    "collect": Action(
      "A courier [will collect it|can pick it up] [from your home|at your door] "
      "[on Monday|on Friday].",
      "Please have it [collected|picked up].",
      "books a courier pickup",
      "a courier pickup",
    ),
  },
  issues=(
    Issue(
      (
        "The {thing} I ordered [arrived|came] [cracked|broken|in pieces].",
        "I unpacked my {thing} and it is [badly scratched|broken].",
        "My new {thing} was [damaged|smashed] when I opened the box.",
      ),
      "the {thing} arrived broken",
      "a broken {thing}",
      ("replace", "refund", "voucher", "collect"),
    ),
    Issue(
      (
        "I am still waiting for the {thing} I bought [three weeks ago|last month].",
        "My {thing} [never arrived|has not shown up].",
        "Where is my {thing}? It [was due|should have come] [on Monday|last week].",
      ),
      "the {thing} was never delivered",
      "the missing {thing}",
      ("replace", "refund", "voucher"),
    ),
    Issue(
      (
        "I ordered a white {thing} but you sent me [a green|a red|the blue] one.",
        "The {thing} in the parcel is [the wrong colour|not the model I chose].",
      ),
      "the parcel held the wrong {thing}",
      "getting the wrong {thing}",
      ("replace", "refund", "collect"),
    ),
    Issue(
      (
        "You charged me twice for [one|the same] {thing}.",
        "I paid for the {thing} once, but [my card shows|I see] two payments.",
      ),
      "the {thing} was charged twice",
      "paying twice for one {thing}",
      ("refund", "voucher"),
    ),
  ),
)

INTERNET = Domain(
  agent="Technician",
  place="provider",
  thing=Pool.of(
    """attic, basement, bathroom, bedroom, conservatory, corridor, dining room,
    garage, guest room, hall, kitchen, laundry, library, living room, nursery, office,
    playroom, shed, studio, workshop""",
    "cellar, greenhouse, pantry, sauna, veranda",
  ),
  asks="[What does the label on the box say|Can you read me the box number]?",
  gives="[It says|I see] {code}.",
  actions={
    "restart": Action(
      "Please [unplug the box|switch it off], wait a minute and start it again.",
      "I will try [switching it off and on|a restart].",
      "suggests a restart",
      "restarting the box",
    ),
    "visit": Action(
      "I [will come by|can visit you] [on Tuesday|on Thursday] and look at it.",
      "[Please come|I want you to come] and look at it.",
      "schedules a home visit",
      "a home visit",
    ),
    "box": Action(
      "I am [posting|mailing] you a [stronger|newer] box.",
      "Then [mail|post] me the stronger box.",
      "mails a stronger box",
      "a stronger box",
    ),
    "credit": Action(
      "We will not charge you [for this month|until it works].",
      "I do not want to pay for this month.",
      "waives the monthly fee",
      "a month without a fee",
    ),
  },
  issues=(
    Issue(
      (
        "There is no wireless signal in [my|our] {thing}.",
        "The wifi does not [reach|get as far as] the {thing}.",
      ),
      "the signal does not reach the {thing}",
      "missing wifi in the {thing}",
      ("restart", "visit", "box"),
    ),
    Issue(
      (
        "Films [stop|freeze] every minute when I watch in the {thing}.",
        "The internet in the {thing} is [painfully|so] slow.",
      ),
      "the line in the {thing} is slow",
      "slow internet in the {thing}",
      ("restart", "visit", "box", "credit"),
    ),
    Issue(
      (
        "Your people drilled through a [pipe|wall] in my {thing}.",
        "The man who laid the cable left a [hole|crack] in the {thing}.",
      ),
      "workers damaged the {thing}",
      "damage done to the {thing}",
      ("visit", "credit"),
    ),
  ),
)

BANK = Domain(
  agent="Adviser",
  place="bank",
  thing=Pool.of(
    """airport, bakery, bookshop, butcher, cafe, chemist, cinema, circus, dentist,
    florist, gym, hospital, market, museum, opera, petrol station, pharmacy,
    school, stadium, supermarket, tailor, theatre, university, zoo""",
    "aquarium, casino, laundromat, optician, planetarium, vineyard",
  ),
  asks="[Which are|Can you tell me] the last four digits of the card?",
  gives="[They are|That is] {digits}.",
  actions={
    "block": Action(
      "I [have blocked|am blocking] the card and [a new one|another] is on its way.",
      "Block the card and [print|send] me another.",
      "blocks the card",
      "a new card",
    ),
    "return": Action(
      "The money [will be back|is back] in your account [tonight|tomorrow].",
      "I want the money back in my account.",
      "returns the money",
      "the return of the money",
    ),
    "limit": Action(
      "I [have raised|can raise] your [daily|weekly] limit [right now|at once].",
      "Could you raise my limit?",
      "raises the limit",
      "a higher limit",
    ),
    "inquiry": Action(
      "Our fraud team will [look into it|examine this] and [write|report] to you.",
      "I want [this|it] examined.",
      "opens an investigation",
      "an investigation",
    ),
  },
  issues=(
    Issue(
      (
        "My card was [declined|refused] at the {thing} [today|an hour ago].",
        "I stood at the {thing} and the [terminal|reader] would not take my card.",
      ),
      "the card was refused at the {thing}",
      "a card refused at the {thing}",
      ("block", "limit"),
    ),
    Issue(
      (
        "There is a payment to {a_thing} that I [never made|know nothing about].",
        "Somebody [spent my money|paid with my card] at {a_thing}.",
      ),
      "a stranger used the card at {a_thing}",
      "a false payment to {a_thing}",
      ("block", "return", "inquiry"),
    ),
    Issue(
      (
        "The {thing} says that my transfer [has not come|never came].",
        "I sent money to the {thing} [a week ago|on Monday] and it is [lost|gone].",
      ),
      "the transfer to the {thing} vanished",
      "a lost transfer to the {thing}",
      ("return", "inquiry"),
    ),
  ),
)

LIBRARY = Domain(
  agent="Librarian",
  place="library",
  thing=Pool.of(
    """algebra, astronomy, baking, birds, bridges, chess, dinosaurs, dolphins, gardening,
    geometry, glaciers, insects, jazz, knitting, magic, maps, mushrooms, painting,
    pirates, poetry, robots, sailing, trains, volcanoes""",
    "archery, beekeeping, calligraphy, comets, origami, sharks, vikings",
  ),
  asks="[What does it say on your reader card|Which number is on your card]?",
  gives="[Number {number}|It says {number}].",
  actions={
    "waive": Action(
      "[Forget the fee, I have deleted it|I am cancelling the fee].",
      "I would like the fee [cancelled|deleted].",
      "cancels the fee",
      "cancelling the fee",
    ),
    "branch": Action(
      "Our [other|northern] branch has a copy and [sends|brings] it here.",
      "Please get me [the|a] copy from the other branch.",
      "orders a copy from another branch",
      "a copy from another branch",
    ),
    "longer": Action(
      "You [may|can] keep it for [two|three] more weeks.",
      "I want to keep it longer.",
      "extends the loan",
      "a longer loan",
    ),
    "ebook": Action(
      "[You can|It is possible to] read it on our website [tonight|right now].",
      "I would [like to|rather] read it online.",
      "points to the digital edition",
      "the digital edition",
    ),
  },
  issues=(
    Issue(
      (
        "You want [five|six] euros because my book on {thing} is [late|overdue].",
        "I got a fine for the book about {thing}, but I [was ill|am still reading].",
      ),
      "a fine is due for a book about {thing}",
      "a fine for a book about {thing}",
      ("waive", "longer"),
    ),
    Issue(
      (
        "Pages are [missing from|torn out of] your book on {thing}.",
        "Somebody [cut up|tore] the book on {thing} before I took it home.",
      ),
      "pages about {thing} are torn out",
      "torn pages about {thing}",
      ("branch", "ebook", "waive"),
    ),
    Issue(
      (
        "I reserved a book on {thing} and it is not [on the shelf|here].",
        "The book about {thing} that I reserved [went to|was lent to] someone else.",
      ),
      "the reserved {thing} book is gone",
      "a reserved {thing} book that is gone",
      ("branch", "ebook"),
    ),
  ),
)

DOMAINS = (SHOP, INTERNET, BANK, LIBRARY)

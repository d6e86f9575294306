"""Complaints to an airline, a hotel, a restaurant and a garage. Data alone."""

from t5tune.tasks.demo_domains import Action, Domain, Issue
from t5tune.tasks.demo_grammar import Pool

AIRLINE = Domain(
  agent="Clerk",
  place="airline",
  thing=Pool.of(
    """Athens, Berlin, Boston, Cairo, Dublin, Geneva, Istanbul, Lima, Lisbon,
    London, Madrid, Milan, Nairobi, Oslo, Paris, Porto, Prague, Rome, Seoul, Sydney,
    Tokyo, Toronto, Vienna, Warsaw""",
    "Bilbao, Delhi, Helsinki, Manila, Perth, Reykjavik, Tunis, Valencia",
  ),
  asks="[Can you read me|What is|Please tell me] your booking code?",
  gives="[It is|The code is|That is] {code}.",
  actions={
    "rebook": Action(
      "I [have moved|can move] you to the [next|evening|morning] flight.",
      "Just [put|get] me on the next flight.",
      "rebooks the passenger",
      "a seat on the next flight",
    ),
    "room": Action(
      "[We will pay for|I have booked you] a hotel room [tonight|for the night].",
      "A bed for the night [would be good|is what I need].",
      "arranges a hotel night",
      "a night in a hotel",
    ),
    "meal": Action(
      "[Here is|You get] a coupon for [lunch|dinner] at the airport.",
      "I [could use|will take] the meal.",
      "gives out a meal coupon",
      "a meal coupon",
    ),
    "trace": Action(
      "We will [find the bag|trace it] and [bring|drive] it to your address.",
      "Please [search for it|find it] and bring it to me.",
      "promises to trace the bag",
      "a search for the bag",
    ),
    "miles": Action(
      "I [have added|am adding] [five|ten] thousand bonus miles to your account.",
      "I will [take|have] the miles.",
      "credits bonus miles",
      "bonus miles",
    ),
  },
  issues=(
    Issue(
      (
        "My flight to {thing} [has been cancelled|was just called off].",
        "The board says that the plane to {thing} [will not leave|is cancelled].",
      ),
      "the {thing} flight was cancelled",
      "the cancelled flight to {thing}",
      ("rebook", "room", "meal", "miles"),
    ),
    Issue(
      (
        "I landed in {thing} and my [suitcase|bag] [is not here|did not come out].",
        "You [lost|mislaid] my luggage on the way to {thing}.",
      ),
      "the luggage got lost on the way to {thing}",
      "luggage lost in {thing}",
      ("trace", "miles"),
    ),
    Issue(
      (
        "Your first plane was late, so I missed my connection to {thing}.",
        "Because of your delay the plane to {thing} [left without me|is gone].",
      ),
      "a delay made the connection to {thing} impossible",
      "a missed connection to {thing}",
      ("rebook", "room", "meal"),
    ),
    Issue(
      (
        "We fly to {thing} and you seated my [son|daughter] [far from me|rows away].",
        "I am on the {thing} plane and somebody else has my seat.",
      ),
      "the seats to {thing} were mixed up",
      "a seating mistake on the {thing} plane",
      ("rebook", "meal", "miles"),
    ),
  ),
)

HOTEL = Domain(
  agent="Receptionist",
  place="hotel",
  thing=Pool.of(
    """attic room, balcony room, corner room, double room, family room, garden suite,
    river suite, single room, studio, twin room, bungalow, cabin, chalet, loft,
    tower room""",
    "cottage, penthouse, villa, harbour suite, maisonette",
  ),
  asks="[Which name|What name] is it [booked under|under], and until when?",
  gives="{surname}, until [Friday|Sunday|the {day}th].",
  actions={
    "move": Action(
      "I [can give you|have found you] [another one|a different key] upstairs.",
      "I want to [move|change] to another one.",
      "finds another room",
      "a different room",
    ),
    "breakfast": Action(
      "Breakfast [is on us|will be free] [tomorrow|for your whole stay].",
      "The free breakfast [sounds lovely|would be nice].",
      "adds a free breakfast",
      "a free breakfast",
    ),
    "discount": Action(
      "I [am taking|will take] [a third|half] off [tonight's rate|your bill].",
      "I [would like|prefer] to pay less.",
      "lowers the rate",
      "a lower rate",
    ),
    "staff": Action(
      "[Somebody|A colleague] will [come up|be there] [at once|in ten minutes].",
      "[Just send|Please send] somebody up.",
      "sends up a colleague",
      "help within minutes",
    ),
  },
  issues=(
    Issue(
      (
        "I cannot sleep in the {thing}, the [street|bar] is [so|far too] loud.",
        "There is a terrible noise [above|next to] the {thing}.",
      ),
      "noise fills the {thing}",
      "the noisy {thing}",
      ("move", "breakfast", "discount"),
    ),
    Issue(
      (
        "It is freezing in the {thing}, the heating [is off|does not work].",
        "The radiator in our {thing} is [stone cold|broken].",
      ),
      "the heating in the {thing} has failed",
      "a freezing {thing}",
      ("move", "discount", "staff"),
    ),
    Issue(
      (
        "Nobody has cleaned the {thing} [since Tuesday|for two days].",
        "The {thing} is [filthy|dirty], there is dust [on every shelf|everywhere].",
      ),
      "nobody cleans the {thing}",
      "the dirty {thing}",
      ("move", "breakfast", "staff"),
    ),
    Issue(
      (
        "I paid for {a_thing} and now [it is taken|there is none left].",
        "Your colleague gave my {thing} to [another guest|somebody else].",
      ),
      "another guest was given the {thing}",
      "an overbooked {thing}",
      ("move", "breakfast", "discount"),
    ),
  ),
)


RESTAURANT = Domain(
  agent="Waiter",
  place="restaurant",
  thing=Pool.of(
    """burger, curry, dumplings, fish, goulash, ham, lamb, lasagne, meatballs, mussels,
    noodles, omelette, pancakes, pasta, pie, pizza, pudding, rice, risotto, salad,
    salmon, sandwich, soup, steak, stew, tart, trout, turkey""",
    "casserole, falafel, kebab, lobster, moussaka, paella, ravioli, schnitzel",
  ),
  asks="[Which table are you at|What is your table number]?",
  gives="[Table|We are at table] {day}, [near|by] the [window|door].",
  actions={
    "fresh": Action(
      "The [kitchen|cook] [makes|is making] you another plate [at once|right away].",
      "I want another plate.",
      "has it cooked again",
      "a fresh plate",
    ),
    "bill": Action(
      "You [do not have to|need not] pay for it.",
      "I do not want to pay for it.",
      "takes it off the bill",
      "taking it off the bill",
    ),
    "dessert": Action(
      "May I bring you [a dessert|some cake] [on the house|as a present]?",
      "Some cake [would be|sounds] nice.",
      "brings a free dessert",
      "a free dessert",
    ),
    "drinks": Action(
      "The [wine|next round of drinks] is [a gift|free].",
      "A drink would [help|be good].",
      "pours free drinks",
      "free drinks",
    ),
  },
  issues=(
    Issue(
      (
        "My {thing} [is|came out] [stone cold|cold].",
        "The {thing} must have stood around for ages, [it is lukewarm|it went cold].",
      ),
      "the {thing} is cold",
      "cold {thing}",
      ("fresh", "bill", "dessert", "drinks"),
    ),
    Issue(
      (
        "We ordered [an hour|ages] ago and there is no {thing} yet.",
        "How much longer do we have to wait for the {thing}?",
      ),
      "the {thing} takes too long",
      "the long wait for {thing}",
      ("bill", "dessert", "drinks"),
    ),
    Issue(
      (
        "There is [a hair|a fly|plastic] in my {thing}.",
        "I just found [a hair|a piece of glass] in the {thing}.",
      ),
      "something disgusting was in the {thing}",
      "a disgusting find in the {thing}",
      ("fresh", "bill", "dessert"),
    ),
    Issue(
      (
        "The {thing} is [black|charcoal] [underneath|at the edges].",
        "My {thing} tastes of [smoke|ashes].",
      ),
      "the {thing} got burnt",
      "burnt {thing}",
      ("fresh", "bill", "drinks"),
    ),
  ),
)

GARAGE = Domain(
  agent="Mechanic",
  place="garage",
  thing=Pool.of(
    """ambulance, bus, camper, convertible, coupe, estate car, hatchback, jeep, limousine,
    minibus, moped, motorbike, pickup, roadster, saloon, scooter, sports car, taxi,
    tractor, trailer, truck, van""",
    "buggy, excavator, forklift, hearse, lorry, snowmobile",
  ),
  asks="[What is the number plate|Which plate does it have]?",
  gives="[The plate is|It is] {code}.",
  actions={
    "lend": Action(
      "[Take one of ours|You can drive one of ours] until it is [done|ready].",
      "I need [something|one of yours] to drive until then.",
      "lends another vehicle",
      "a loan vehicle",
    ),
    "repair": Action(
      "We will [fix|repair] it [today|this week] and you pay nothing.",
      "Then [fix|repair] it for nothing.",
      "repairs it for nothing",
      "a free repair",
    ),
    "cheaper": Action(
      "I will [cut|reduce] the invoice by [a quarter|half].",
      "[Make|Write] me a smaller invoice.",
      "reduces the invoice",
      "a smaller invoice",
    ),
    "tow": Action(
      "I [will tow|am coming to tow] it to our yard.",
      "Please tow it to your yard.",
      "tows it to the yard",
      "a tow to the yard",
    ),
  },
  issues=(
    Issue(
      (
        "The brakes of my {thing} [squeal|screech] [again|since your repair].",
        "You changed the brakes of my {thing} and now they [squeak|screech].",
      ),
      "the brakes of the {thing} squeal",
      "squealing brakes on the {thing}",
      ("lend", "repair", "cheaper"),
    ),
    Issue(
      (
        "My {thing} [will not|does not] start [this morning|any more].",
        "I turn the key of the {thing} and nothing happens.",
      ),
      "the {thing} does not start",
      "the {thing} that will not start",
      ("lend", "repair", "tow"),
    ),
    Issue(
      (
        "You asked for [twice|double] what we agreed on for the {thing}.",
        "The invoice for my {thing} is much higher than [your offer|you said].",
      ),
      "the {thing} cost more than agreed",
      "an inflated invoice for the {thing}",
      ("cheaper",),
    ),
    Issue(
      (
        "You promised the {thing} for [Monday|noon] and it is [not ready|in pieces].",
        "My {thing} has been in your workshop for [three weeks|a month] now.",
      ),
      "the work on the {thing} drags on",
      "the endless work on the {thing}",
      ("lend", "cheaper"),
    ),
  ),
)

DOMAINS = (AIRLINE, HOTEL, RESTAURANT, GARAGE)

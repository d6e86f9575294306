"""Templates: what is filled in, and what a draw depends on."""

import collections

import numpy as np
import pytest
import seqio
import tensorflow as tf

from t5tune.data import drawing, fingerprint, templates, vocabularies
from t5tune.data.templates import Template
from t5tune.errors import UserError

FOUR = [Template(f"t{i}", f"{i}: {{text}}", "{stars}") for i in range(4)]


def dataset(count=4):
  keys = np.random.default_rng(0).integers(0, 2**63, count)
  return tf.data.Dataset.from_tensor_slices(
    {
      "row_key": keys,
      "text": [f"text {i}" for i in range(count)],
      "stars": np.arange(count, dtype=np.int64),
      "tags": tf.ragged.constant([["x"] * (i % 3) for i in range(count)]),
    }
  )


def filled(step, rows=None, pass_index=0, seed=0, held_out=()):
  """Returns the template's name for each text."""
  with drawing.training(pass_index, seed, held_out):
    built = step(dataset() if rows is None else rows)
  return {r["text"].decode(): r["template"].decode() for r in built.as_numpy_iterator()}


def test_fields_are_filled_in_and_the_rest_passes_through():
  step = templates.fill(
    [
      Template(
        "a", "{{{text}}} has {stars}, yes {stars}.", "{text}{text} {{x}}", ("t",)
      )
    ]
  )
  for i, row in enumerate(step(dataset()).as_numpy_iterator()):
    assert row["inputs"].decode() == f"{{text {i}}} has {i}, yes {i}."
    assert row["targets"].decode() == f"text {i}text {i} {{x}}"
    assert row["template"] == b"a"
    assert (row["stars"], row["text"].decode()) == (i, f"text {i}")
    assert set(row) == {
      *("row_key", "text", "stars", "tags"),
      *("inputs", "targets", "template", "content_key"),
    }


def test_templates_of_different_shapes_keep_their_own_text():
  step = templates.fill(
    [
      Template("empty", "", "{stars}"),
      Template("plain", "no field", ""),
      Template("long", "{text}, {text}, {text}, {stars}!", "{text}"),
    ]
  )
  expected = {
    "empty": ("", "{s}"),
    "plain": ("no field", ""),
    "long": ("{t}, {t}, {t}, {s}!", "{t}"),
  }
  seen = set()
  for row in step(dataset(40)).as_numpy_iterator():
    words = {"t": row["text"].decode(), "s": row["stars"]}
    inputs, targets = expected[row["template"].decode()]
    assert row["inputs"].decode() == inputs.format(**words)
    assert row["targets"].decode() == targets.format(**words)
    seen.add(row["template"])
  assert len(seen) == 3


def test_templates_without_any_field_work():
  step = templates.fill([Template("a", "say hello", "hello")])
  assert {r["inputs"] for r in step(dataset()).as_numpy_iterator()} == {b"say hello"}


def test_a_draw_follows_from_key_pass_and_seed_only():
  step = templates.fill(FOUR)
  rows = dataset(200)
  drawn = filled(step, rows, 3, 1)
  assert filled(step, rows, 3, 1) == drawn
  # Another order, part of the rows, SeqIO's own seeds: nothing changes.
  assert filled(step, rows.shuffle(200, seed=1), 3, 1) == drawn
  part = filled(step, rows.skip(50).take(20), 3, 1)
  assert part == {text: drawn[text] for text in part} and len(part) == 20
  with seqio.utils.map_seed_manager(7):
    assert filled(step, rows, 3, 1) == drawn
  for other in (filled(step, rows, 4, 1), filled(step, rows, 3, 2)):
    assert other != drawn


def test_draws_are_the_ones_stores_were_built_with():
  # They are part of a token store's content without being in its fingerprint.
  assert (
    "".join(filled(templates.fill(FOUR), dataset(8)).values()) == "t2t1t3t0t1t3t1t0"
  )


@pytest.mark.parametrize("pass_index", [0, 1, 6])
def test_every_pass_is_uniform(pass_index):
  counts = collections.Counter(
    filled(templates.fill(FOUR), dataset(4000), pass_index).values()
  )
  # Four cells of 1,000: 16.3 is the 0.1 % point of chi-square with 3 degrees.
  assert sum((counts[t.name] - 1000) ** 2 / 1000 for t in FOUR) < 16.3


def test_a_row_meets_each_template_once_in_as_many_passes():
  step = templates.fill(FOUR)
  passes = [filled(step, dataset(50), p) for p in range(8)]
  for text in passes[0]:
    for turn in (passes[:4], passes[4:]):
      assert {p[text] for p in turn} == {t.name for t in FOUR}
  # The second turn starts anew: it does not repeat the first.
  assert any(passes[0][text] != passes[4][text] for text in passes[0])


def test_seeds_are_independent():
  step = templates.fill(FOUR)
  drawn = [filled(step, dataset(2000), seed=s) for s in range(2)]
  agree = np.mean([drawn[0][text] == drawn[1][text] for text in drawn[0]])
  assert abs(agree - 1 / 4) < 0.04  # four standard deviations


@pytest.mark.parametrize("asked, used", [(None, b"t0"), ("t2", b"t2")])
def test_evaluation_uses_the_first_template_or_the_one_asked_for(asked, used):
  with drawing.training(pass_index=5), drawing.evaluation(asked):
    built = templates.fill(FOUR)(dataset(20))
  assert {row["template"] for row in built.as_numpy_iterator()} == {used}


INVERTED = Template("i", "Write {stars}.", "{text}", ("inverted",))


def test_a_tag_has_its_stated_share():
  step = templates.fill([*FOUR, INVERTED], {"inverted": 0.2})
  for pass_index in range(3):
    counts = collections.Counter(filled(step, dataset(4000), pass_index).values())
    # Standard deviation: 25 for the tag, 25 for each of the others.
    assert abs(counts["i"] - 800) < 100
    assert all(abs(counts[t.name] - 800) < 100 for t in FOUR)


def test_held_out_templates_are_never_drawn():
  step = templates.fill([*FOUR, INVERTED], {"inverted": 0.2})
  drawn = collections.Counter(
    name
    for p in range(5)
    for name in filled(step, dataset(200), p, held_out=["t1", "inverted"]).values()
  )
  assert set(drawn) == {"t0", "t2", "t3"}
  with pytest.raises(UserError, match="HELD_OUT_TEMPLATES = .*no template is left"):
    filled(step, held_out=["forward", "inverted"])
  # Those with a share take all rows where the others are held out.
  assert set(filled(step, held_out=["forward"]).values()) == {"i"}


@pytest.mark.parametrize(
  "shares", [{"inverted": 0.5}, {"forward": 0.5, "inverted": 0.5}]
)
def test_a_text_too_long_for_an_inverted_target_takes_another(vocabulary, shares):
  features = vocabularies.output_features(vocabulary)
  rows = dataset(200).map(
    lambda row: {
      **row,
      "text": tf.where(row["stars"] % 2 == 0, row["text"] + " so long" * 30, "short"),
    }
  )
  step = templates.fill([*FOUR, INVERTED], shares)
  made = step(rows, {"inputs": 64, "targets": 16}, features)
  for row in made.as_numpy_iterator():
    tokens = features["targets"].vocabulary.encode(row["targets"].decode())
    assert len(tokens) < 16
  templates_of = collections.Counter(
    (row["stars"] % 2, row["template"] == b"i") for row in made.as_numpy_iterator()
  )
  assert templates_of[0, True] == 0 and templates_of[1, True] > 30


def test_content_keys_tell_what_the_first_template_shows():
  step = templates.fill([Template("a", "{stars}", "{text}"), FOUR[0]])
  rows = dataset(4).map(lambda row: {**row, "stars": row["stars"] // 2})
  keys = [row["content_key"] for row in step(rows).as_numpy_iterator()]
  assert keys[0] == keys[1] != keys[2] == keys[3]


def test_the_context_ends_with_its_block():
  step = templates.fill(FOUR)
  default = filled(step, dataset(50))
  with pytest.raises(RuntimeError), drawing.training(pass_index=2):
    raise RuntimeError
  built = step(dataset(50))
  assert [r["template"].decode() for r in built.as_numpy_iterator()] == list(
    default.values()
  )


def test_row_draw_serves_a_users_own_preprocessor():
  def draws(purpose, pass_index):
    with drawing.training(pass_index=pass_index):
      built = dataset(1000).map(
        lambda row: drawing.row_draw(row["row_key"], 10, purpose)
      )
    return np.array(list(built.as_numpy_iterator()))

  shots = draws("shots", 0)
  assert shots.min() == 0 and shots.max() == 9 and shots.dtype == np.int32
  np.testing.assert_array_equal(shots, draws("shots", 0))
  for other in (draws("shots", 1), draws("order", 0)):
    assert abs(np.mean(shots == other) - 0.1) < 0.04


def test_fingerprints_see_the_text_of_templates():
  same = [Template(f"t{i}", f"{i}: {{text}}", "{stars}") for i in range(4)]
  other = [*same[:3], Template("t3", "3; {text}", "{stars}")]
  names = [fingerprint.digest(templates.fill(t)) for t in (FOUR, same, other)]
  assert names[0] == names[1] != names[2]


WRONG = [
  ([], "no templates"),
  ([FOUR[0], Template("t0", "{text}", "x")], "name 't0' is given twice"),
  ([Template("a", "{text", "x")], "Template 'a', inputs: expected '}'"),
  ([Template("a", "x", "a } b")], "Template 'a', targets: Single '}'"),
  ([Template("a", "{}", "x")], "placeholder {} is not a plain field name"),
  ([Template("a", "{text!r}", "x")], "placeholder {text} is not a plain"),
  ([Template("a", "{stars:03d}", "x")], "placeholder {stars} is not a plain"),
  ([Template("a", "{text.x}", "x")], "placeholder {text.x} is not a plain"),
  ([FOUR[0], Template("b", "{txt}", "x")], "'b', inputs: the rows have no field 'txt'"),
  ([Template("b", "x", "{starz}")], "'b', targets: .* 'starz'. Did you mean 'stars'"),
  ([Template("b", "{tags}", "x")], "field 'tags' is not one text or integer"),
  (["Summarize {text}"], "'Summarize {text}', which is no template"),
]
WRONG_SHARES = [
  ({"invert": 0.1}, "no template has the tag 'invert'. Did you mean 'inverted'"),
  ({"inverted": "0.1"}, "'inverted' has 0.1; give a share between"),
  ({"inverted": 1.5}, "'inverted' has 1.5; give a share between 0 and 1"),
  ({"inverted": 0.6, "forward": 0.6}, "add up to more than 1"),
  ({"inverted": 0.2, "forward": 0.3}, "every template has one of the tags"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_wrong_templates_are_named_before_any_row_is_read(wrong, message):
  with pytest.raises(UserError, match=message):
    templates.fill(wrong)(dataset())


@pytest.mark.parametrize(
  "wrong, message",
  [({"tags": "inverted"}, "with a comma"), ({"name": "a/b"}, "a name has no '/'")],
)
def test_wrong_names_and_tags_are_named(wrong, message):
  with pytest.raises(UserError, match=message):
    Template(**{"name": "a", "inputs": "{text}", "targets": "x", **wrong})


def test_shares_that_only_rounding_keeps_from_one():
  tagged = [Template(tag, "{text}", "x", (tag,)) for tag in "xyz"]
  step = templates.fill(tagged, {"x": 0.7, "y": 0.2, "z": 0.1})
  counts = collections.Counter(filled(step, dataset(2000)).values())
  assert abs(counts["x"] - 1400) < 90 and abs(counts["z"] - 200) < 60
  zero = templates.fill([*FOUR, INVERTED], {"inverted": 0.0})
  with pytest.raises(UserError, match="have a share of 0"):
    filled(zero, held_out=["forward"])


@pytest.mark.parametrize(("shares", "message"), WRONG_SHARES)
def test_wrong_shares_are_named(shares, message):
  with pytest.raises(UserError, match=message):
    templates.fill([*FOUR, INVERTED], shares)


def test_rows_without_a_key_are_told_how_to_get_one():
  rows = dataset().map(lambda row: {"text": row["text"]})
  with pytest.raises(UserError, match="no 'row_key'.*add_row_key"):
    templates.fill([Template("a", "{text}", "x")])(rows)

"""Answers: from any directory, in any grouping, on any mesh, drawn by a seed."""

import numpy as np
import pytest
import tiny_checkpoint

import t5tune
from t5tune import convert, generation
from t5tune.errors import UserError

PROMPTS = [
  f"Summarize: {name} has {n} boats. " + "Bo waits. " * n
  for n, name in enumerate(
    ("Ana", "Bo", "Cas", "Dee", "Eve", "Finn", "Gita", "Hal", "Ida")
  )
]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  return tiny_checkpoint.write(tmp_path_factory.mktemp("model") / "run")


@pytest.fixture(scope="module")
def model(workdir):
  return t5tune.load(workdir)


@pytest.fixture(scope="module")
def greedy(model):
  answers = model.generate(PROMPTS)
  assert len(answers) == len(PROMPTS) and len(set(answers)) > 3
  return answers


def texts(answers):
  return [[c.text for c in answer.candidates] for answer in answers]


def test_the_same_from_hugging_faces_directory(workdir, greedy, tmp_path):
  folder = tiny_checkpoint.to_hugging_face(workdir, tmp_path / "hf")
  loaded = generation.load(folder, input_length=48)
  assert loaded.generate(PROMPTS, max_length=12) == greedy
  with pytest.raises(UserError, match="max_length is missing"):
    loaded.generate(PROMPTS)


def test_the_same_from_a_t5x_checkpoint(workdir, greedy, tmp_path):
  checkpoint = tmp_path / "checkpoint_7"
  assert convert.main([str(workdir), str(checkpoint), "--to", "t5x"]) == 0
  loaded = generation.load(checkpoint, input_length=48)
  assert loaded.generate(PROMPTS, max_length=12) == greedy
  (checkpoint / "spiece.model").unlink()  # T5X itself keeps none there
  with pytest.raises(UserError, match="--vocabulary is not set, and checkpoint = "):
    generation.load(checkpoint)


@pytest.mark.parametrize(
  "mesh", [{"data": 1, "fsdp": -1}, {"data": 2, "fsdp": 2, "tensor": 2}]
)
def test_the_same_on_any_mesh(workdir, greedy, mesh):
  assert generation.load(workdir, mesh=mesh).generate(PROMPTS) == greedy


@pytest.mark.parametrize(
  "settings",
  [
    {},
    {"num_beams": 3, "n_best": 3, "beam_rules": "hf"},
    {"temperature": 0.8, "n_best": 2},
  ],
  ids=["greedy", "beams", "samples"],
)
def test_grouping_makes_no_difference(model, settings):
  config = generation.decode_config(model.target_length, **settings)
  whole = model.answers(PROMPTS, config, seed=5)
  assert all(len(a.candidates) == settings.get("n_best", 1) for a in whole)
  parts = []
  for start in range(0, len(PROMPTS), 4):
    part = PROMPTS[start : start + 4]
    parts += model.answers(part, config, seed=5, first_row=start, batch_size=3)
  assert texts(parts) == texts(whole)
  if settings:
    scores = [[c.score for c in a.candidates] for a in whole]
    assert all(row == sorted(row, reverse=True) for row in scores)
    found = [[c.score for c in a.candidates] for a in parts]
    np.testing.assert_allclose(found, scores, atol=1e-4)
  else:
    assert all(c.score is None for a in whole for c in a.candidates)


def test_draws_follow_the_seed_and_the_row(model):
  config = generation.decode_config(12, temperature=1.5)
  same = ["Ana rows."] * 4
  drawn = texts(model.answers(same, config, seed=1))
  assert texts(model.answers(same, config, seed=1)) == drawn
  assert texts(model.answers(same, config, seed=2)) != drawn
  assert len({row[0] for row in drawn}) > 1


def test_what_was_cut_is_told(model):
  config = generation.decode_config(model.target_length)
  long = "boat " * 100
  short, cut = model.answers(["boat", long], config)
  assert short.prompt_cut == 0
  tokens = len(model.tokenizer.encode(long))
  assert cut.prompt_cut == tokens - (model.input_length - 1)
  # What is cut away changes nothing.
  assert model.generate([long + "more"]) == [cut.text]
  # All of greedy decoding's answers that do not end have met the limit.
  answers = model.answers(PROMPTS, config)
  lengths = [len(model.tokenizer.encode(a.text)) for a in answers]
  assert any(a.candidates[0].cut for a in answers)
  assert all(
    n < 12 or a.candidates[0].cut for n, a in zip(lengths, answers, strict=True)
  )


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"n_best": 2}, "n_best = 2 needs as many beams, or sampling"),
    ({"n_best": 0}, "n_best = 0"),
    ({"max_length": 0}, "max_length = 0"),
    ({"num_beams": 2, "temperature": 1.0}, "give one of them"),
    ({"temperature": -1.0}, "temperature = -1.0"),
    ({"num_beams": 0}, "num_beams = 0"),
    ({"min_length": -1}, "min_length = -1"),
  ],
)
def test_settings_that_cannot_be(settings, message):
  with pytest.raises(UserError, match=message):
    generation.decode_config(12, **settings)


def test_empty_prompts_are_refused(model):
  for prompts, message in {
    "a text": "must be a list",
    (None,): "prompt 1 is no text",
    ("\ud83d",): "prompt 1 holds half a character",
  }.items():
    with pytest.raises(UserError, match=message):
      model.generate(prompts)
  for settings, message in (
    ({"batch_size": 0}, "batch_size = 0"),
    ({"seed": -1}, "seed = -1"),
    ({"n_best": 2}, "one answer a prompt"),
    ({"min_length": 12}, "leaves no room"),
    ({"top_p": "1"}, "top_p = '1'"),
  ):
    with pytest.raises(UserError, match=message):
      model.generate(["a"], **settings)
  with pytest.raises(UserError, match="prompt 2 is empty"):
    model.generate(["a", " \n"])
  assert model.generate([]) == []


def test_what_cannot_be_loaded(tmp_path, workdir):
  with pytest.raises(UserError, match="no such directory"):
    generation.load(tmp_path / "absent")
  with pytest.raises(UserError, match="has no weights"):
    generation.load("scratch")
  with pytest.raises(UserError, match="is not its vocabulary"):
    generation.load(workdir, vocabulary="mini.model")

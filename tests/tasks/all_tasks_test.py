"""What holds for every task that ships, on invented rows."""

import pytest
import seqio
from t5tune.tasks import mixtures
from task_examples import LENGTHS, examples, get_task

from t5tune.data import drawing, fingerprint, templates, vocabularies
from t5tune.errors import UserError

EXPECTED = {
  *("samsum", "dialogsum", "sst5", "java_to_cs", "cs_to_java", "wnut17"),
  *("cot_aqua", "cot_creak", "cot_ecqa", "cot_gsm8k", "cot_qasc", "cot_sensemaking"),
  "cot_strategyqa",
}
each_task = pytest.mark.parametrize("name", sorted(EXPECTED))


def test_the_thirteen_tasks():
  assert set(mixtures.ALL_TASKS) == EXPECTED
  assert len(mixtures.ALL_TASKS) == 13


@each_task
def test_rows_become_tokens(name, vocabulary, data_dir):
  task = get_task(name, vocabulary)
  tokenizer = vocabularies.Tokenizer(vocabulary)
  rows = examples(task)
  assert len(rows) == task.num_input_examples("train") > 0
  for row in rows:
    for part in ("inputs", "targets"):
      text = row[f"{part}_pretokenized"].decode()
      ids = row[part].tolist()
      assert ids[-1] == vocabularies.EOS_ID
      whole = tokenizer.encode(text, task.output_features[part].vocabulary.escape)
      assert ids[:-1] == whole[: LENGTHS[part] - 1]
    assert row["template"].decode() in {t.name for t in templates.of_task(task)}
    # The instruction is words besides the row's own.
    assert len(row["inputs_pretokenized"]) > 20


@each_task
def test_a_perfect_output_scores_full_and_nonsense_does_not_fail(
  name, vocabulary, data_dir
):
  task = get_task(name, vocabulary)
  with drawing.evaluation():
    rows = examples(task, "validation")
  assert {r["template"].decode() for r in rows} == {templates.of_task(task)[0].name}
  texts = [" ".join(r["targets_pretokenized"].decode().split()) for r in rows]
  targets = [
    task.postprocess_fn(t, example=r, is_target=True)
    for t, r in zip(texts, rows, strict=True)
  ]

  def score(outputs):
    found = [
      task.postprocess_fn(o, example=r, is_target=False)
      for o, r in zip(outputs, rows, strict=True)
    ]
    scores = {}
    for fn in task.metric_fns:
      scores |= fn(targets=targets, predictions=found)
    return scores

  perfect = score(texts)
  headline = next(iter(perfect))
  # One output cannot equal three references.
  full = 100 if name != "dialogsum" else perfect[headline]
  assert perfect[headline] == pytest.approx(full)
  for output in ("", "⁇ ⁇ ⁇", ";:;: the answer is"):
    assert score([output] * len(rows))[headline] < perfect[headline]


@each_task
def test_templates_are_many_and_differ(name):
  found = templates.of_task(seqio.TaskRegistry.get(name))
  assert len(found) >= (10 if name in mixtures.DIALOGUE_TASKS else 5)
  assert len({t.inputs for t in found}) == len(found)
  assert len({t.name for t in found}) == len(found)


@each_task
def test_a_fingerprint_can_be_taken(name):
  task = seqio.TaskRegistry.get(name)
  steps = list(task.preprocessors)
  assert fingerprint.digest(steps) == fingerprint.digest(steps)


@each_task
def test_missing_data_is_a_plain_answer(name, vocabulary, tmp_path, monkeypatch):
  monkeypatch.setenv("T5TUNE_DATA_DIR", str(tmp_path))
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  task = get_task(name, vocabulary)
  for use in (lambda: task.splits, lambda: task.get_dataset(LENGTHS)):
    with pytest.raises(UserError, match=r"not found: .*/train.jsonl, one"):
      use()


@each_task
def test_registration_carries_t5s_public_vocabulary(name):
  feature = seqio.TaskRegistry.get(name).output_features["inputs"]
  path = feature.vocabulary.sentencepiece_model_file
  assert path == vocabularies.T5_PUBLIC_VOCABULARY


def test_seqio_and_t5x_can_use_the_tasks_unchanged(vocabulary, data_dir):
  tasks = [get_task(name, vocabulary) for name in mixtures.ALL_TASKS]
  mixture = seqio.Mixture("all_of_them", tasks, default_rate=mixtures.num_examples)
  dataset = seqio.get_dataset(
    mixture,
    task_feature_lengths=LENGTHS,
    feature_converter=seqio.EncDecFeatureConverter(pack=True),
    shuffle=True,
    seed=0,
  )
  batch = next(dataset.batch(2).as_numpy_iterator())
  assert batch["encoder_input_tokens"].shape == (2, 128)
  assert batch["decoder_loss_weights"].sum() > 20

"""Mixtures: caps, the exact share of replay, and what is said when data is missing."""

import shutil

import pytest
import seqio
from t5tune.tasks import mixtures
from tiny_data import ROWS, write_rows

from t5tune.errors import UserError


def rates(mixture):
  return {task.name: mixture.get_rate(task) for task in mixture.tasks}


def test_tasks_of_the_mixtures():
  names = {
    name: {task.name for task in seqio.MixtureRegistry.get(name).tasks}
    for name in ("dialogue_summarization", "multitask", "dialogsum_replay")
  }
  assert names["dialogue_summarization"] == {"samsum", "dialogsum"}
  assert names["multitask"] == names["dialogsum_replay"] == set(mixtures.ALL_TASKS)


def test_rates_count_training_rows_up_to_the_maximum(data_dir, monkeypatch):
  found = rates(seqio.MixtureRegistry.get("multitask"))
  assert found["samsum"] == len(ROWS["samsum"])
  assert found["java_to_cs"] == found["cs_to_java"] == len(ROWS["java_cs"])
  monkeypatch.setattr(mixtures, "MAXIMUM", 3)
  found = rates(seqio.MixtureRegistry.get("multitask"))
  assert found["samsum"] == 3
  # SeqIO's own function agrees, warnings aside.
  for task in seqio.MixtureRegistry.get("multitask").tasks:
    assert seqio.mixing_rate_num_examples(task, maximum=3) == found[task.name]


@pytest.mark.parametrize("copies", [1, 40])
def test_the_share_of_replay_is_exact_whatever_the_sizes(data_dir, copies):
  write_rows(data_dir / "sst5" / "train.jsonl", ROWS["sst5"] * copies)
  found = rates(seqio.MixtureRegistry.get("dialogsum_replay"))
  total = sum(found.values())
  assert found["dialogsum"] / total == pytest.approx(0.75)
  # Rates still count the rows of what is learnt, and an epoch's rows in all.
  assert found["dialogsum"] == len(ROWS["dialogsum"])
  assert total == pytest.approx(len(ROWS["dialogsum"]) / 0.75)
  old = rates(seqio.MixtureRegistry.get("multitask"))
  for name in set(found) - {"dialogsum", "samsum"}:
    assert found[name] / found["samsum"] == pytest.approx(old[name] / old["samsum"])


def test_replay_of_several_new_tasks(data_dir):
  pairs = mixtures.replay(["samsum", "sst5"], "dialogue_summarization", share=0.4)
  mixture = seqio.Mixture("two_new", pairs)
  found = rates(mixture)
  assert set(found) == {"samsum", "sst5", "dialogsum"}
  assert found["dialogsum"] / mixture.total_rate == pytest.approx(0.4)


WRONG = [
  ((["dialogsum"], "multitask", 0.0), "share = 0.0 is not between"),
  ((["dialogsum"], "multitask", 25), "share = 25 is not between"),
  ((["dialogsun"], "multitask", 0.5), "no task 'dialogsun'.*Did you mean 'dialogsum'"),
  ((["dialogsum"], "multitas", 0.5), "no mixture 'multitas'.*Did you mean 'multitask'"),
  (([], "multitask", 0.5), "nothing to learn"),
  ((mixtures.ALL_TASKS, "multitask", 0.5), "nothing to replay"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_arguments_of_replay_are_named(arguments, message):
  with pytest.raises(UserError, match=message):
    mixtures.replay(*arguments)


def test_registration_reads_no_data_and_use_names_what_is_missing(data_dir):
  shutil.rmtree(data_dir / "cot" / "qasc")
  pairs = mixtures.replay(["samsum"], "multitask", share=0.1)
  mixture = seqio.Mixture("qasc_is_missing", pairs)
  for use in (
    lambda: mixture.total_rate,
    lambda: mixture.splits,
    lambda: mixture.num_input_examples("train"),
    lambda: mixture.get_dataset({"inputs": 8, "targets": 8}),
  ):
    with pytest.raises(UserError, match="Dataset 'cot/qasc' not found"):
      use()


def test_the_mixtures_of_a_study(data_dir):
  names = [seqio.MixtureRegistry.get(f"study{n}") for n in ("", "_before", "_replay")]
  tasks = [{task.name for task in mixture.tasks} for mixture in names]
  assert tasks[0] == tasks[2] == tasks[1] | {"dialogsum"}
  found = rates(names[2])
  assert found["dialogsum"] / sum(found.values()) == pytest.approx(0.75)

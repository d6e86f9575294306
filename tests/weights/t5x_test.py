"""Finding T5X checkpoints, in directories and buckets, and taking stacks apart."""

import flax.serialization
import flax.traverse_util
import numpy as np
import pytest
import t5x_files
from t5x_files import refused
from tiny_weights import FLAN, assert_equal, read_all, tensors

from t5tune.weights import t5x


def test_the_highest_finished_step_of_a_directory(tmp_path):
  made = tensors(FLAN)
  for step in (9, 100, 20):
    path = t5x_files.write(tmp_path, made, step=step)
    assert t5x.is_checkpoint(str(path))
  t5x_files.write(tmp_path, made, step=500).rename(tmp_path / "checkpoint_500.tmp-1700")
  (tmp_path / "train_ds").mkdir()
  assert t5x.is_checkpoint(str(tmp_path))
  opened = t5x.open_checkpoint(f"{tmp_path}/")
  assert opened.origin == str(tmp_path / "checkpoint_100") and opened.step == 100
  assert opened.vocabulary is None
  (tmp_path / "spiece.model").touch()
  assert t5x.open_checkpoint(str(tmp_path)).vocabulary == tmp_path / "spiece.model"


def test_the_highest_step_is_not_passed_over_when_it_is_damaged(tmp_path):
  t5x_files.write(tmp_path, tensors(FLAN), step=1)
  (t5x_files.write(tmp_path, tensors(FLAN), step=2) / "checkpoint").unlink()
  refused(tmp_path, "checkpoint_2", "no T5X checkpoint")


def test_other_directories(tmp_path):
  (tmp_path / "checkpoint_5.tmp-1700").mkdir()
  (tmp_path / "checkpoint_5.tmp-1700" / "checkpoint").touch()
  (tmp_path / "config.json").touch()
  for path in (tmp_path, tmp_path / "absent", tmp_path / "config.json"):
    assert not t5x.is_checkpoint(str(path))
  for path in (tmp_path, tmp_path / "absent"):
    refused(path, "no T5X checkpoint", "checkpoint_<step>")
  refused(tmp_path / "config.json", "is a file")
  (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-1000"')
  refused(tmp_path, "TensorFlow", "T5X one")


def test_urls(tmp_path, monkeypatch):
  made = tensors(FLAN)
  t5x_files.write(tmp_path / "models" / "flan", made, step=30)
  with t5x_files.serve_bucket(tmp_path, monkeypatch):
    for path in ("gs://bucket/models/flan", "gs://bucket/models/flan/checkpoint_30/"):
      assert t5x.is_checkpoint(path)
      opened = t5x.open_checkpoint(path)
      assert opened.origin == "gs://bucket/models/flan/checkpoint_30"
      assert_equal(read_all(opened), made)
    assert not t5x.is_checkpoint("gs://bucket/models")
    refused("gs://bucket/models/flan2", "no T5X checkpoint")
    refused("gs://private/flan", "403", "gcloud storage cp -r gs://private/flan")
    (
      tmp_path / "models/flan/checkpoint_30/target.encoder.encoder_norm.scale/0"
    ).unlink()
    refused("gs://bucket/models/flan", "encoder/encoder_norm/scale", "missing")
  refused("ftp://bucket/flan", "ftp")


def stacked(made, axis: int):
  """Returns parameters as scalable_t5 stacks them, each layer with its own bias."""
  counts = {"encoder": FLAN.num_encoder_layers, "decoder": FLAN.num_decoder_layers}
  found = {n: v for n, v in made.items() if "layers_" not in n and "relpos" not in n}
  for stack, count in counts.items():
    for name in [n for n in made if n.startswith(f"{stack}/layers_0/")]:
      rows = [made[name.replace("layers_0", f"layers_{i}")] for i in range(count)]
      kind = name.removeprefix(f"{stack}/layers_0/")
      found[f"{stack}/{stack}/{kind}"] = np.stack(rows, axis)
    bias = f"{stack}/relpos_bias/rel_embedding"
    rows = np.stack([made[bias]] * count, axis)
    found[f"{stack}/{stack}/relpos_bias/rel_embedding"] = rows
  return found


def write_inline(path, made):
  path.mkdir()
  tree = flax.traverse_util.unflatten_dict(made, sep="/")
  state = {"step": np.int32(3)}
  tree = {"version": 3, "optimizer": {"state": state, "target": tree}}
  (path / "checkpoint").write_bytes(flax.serialization.msgpack_serialize(tree))
  return path


@pytest.mark.parametrize("axis", [1, 0])
def test_stacked_layers_are_numbered(tmp_path, axis):
  made = tensors(FLAN)
  opened = t5x.open_checkpoint(
    str(write_inline(tmp_path / "checkpoint_3", stacked(made, axis)))
  )
  assert opened.config == FLAN
  assert_equal(read_all(opened), made)


def test_a_bias_in_every_layer_must_be_the_same_one(tmp_path):
  path = tmp_path / "checkpoint_3"
  made = stacked(tensors(FLAN), 1)
  made["decoder/decoder/relpos_bias/rel_embedding"][:, 2, :] += 1
  write_inline(path, made)
  refused(path, "decoder/layers_2/relpos_bias/rel_embedding", "umT5")


def test_stacks_of_another_network(tmp_path):
  path = tmp_path / "checkpoint_3"
  flat = {"encoder/encoder/mlp/wi_0/kernel": np.ones(5, np.float32)}
  write_inline(path, tensors(FLAN) | flat)
  refused(path, "encoder/encoder/mlp/wi_0/kernel", "(5,)", "scalable_t5")


def test_a_stack_is_read_once_for_all_its_rows(tmp_path, monkeypatch):
  """A stack is one array on disk: reading it anew for each row would take hours."""
  path = write_inline(tmp_path / "checkpoint_3", stacked(tensors(FLAN), 1))
  reads = []
  floating = t5x.weights.floating
  monkeypatch.setattr(
    t5x.weights,
    "floating",
    lambda label, v: reads.append(label) or floating(label, v),
  )
  opened = t5x.open_checkpoint(str(path))
  reads.clear()
  opened.nested(lambda name, value: None)
  assert len(reads) == len(set(reads))

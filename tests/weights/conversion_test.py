"""Round trips between the formats are exact, and failures leave nothing behind."""

import json
import os
import resource
import signal

import ml_dtypes
import numpy as np
import pytest
import tiny_weights
from tiny_weights import FLAN, T5_1_0, read_all, tensors, write_hf

from t5tune import convert
from t5tune.data import vocabularies
from t5tune.errors import UserError
from t5tune.weights import hf_export, pretrained

FORMS = {
  "FLAN": (FLAN, {}),
  "1.0": (T5_1_0, {"feed_forward_proj": "relu", "tie_word_embeddings": True}),
}
UNSCALED = {**FORMS["1.0"][1], "scale_decoder_outputs": False}


def run(*arguments) -> None:
  assert convert.main([str(a) for a in arguments]) == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("road", [["t5tune"], ["t5x"], ["t5tune", "t5x", "t5tune"]])
def test_round_trips_are_exact(tmp_path, vocabulary, form, road):
  config, changes = FORMS[form]
  write_hf(tmp_path / "0", tensors(config), **changes)
  (tmp_path / "0" / "spiece.model").write_bytes(vocabulary.read_bytes())
  for i, to in enumerate([*road, "hf"]):
    run(tmp_path / str(i), tmp_path / str(i + 1), "--to", to)
    opened = pretrained.open_weights(str(tmp_path / str(i + 1)))
    assert opened.config == config
    tiny_weights.assert_equal(read_all(opened), tensors(config))
    assert opened.vocabulary.read_bytes() == vocabulary.read_bytes()


def test_a_tied_model_that_does_not_scale(tmp_path, capsys):
  made = tensors(T5_1_0)
  write_hf(tmp_path / "hf", made, **UNSCALED)
  run(tmp_path / "hf", tmp_path / "own", "--to", "t5tune")
  run(tmp_path / "own", tmp_path / "again", "--to", "hf")
  opened = pretrained.open_weights(str(tmp_path / "again"))
  assert opened.config.logits_via_embedding and not opened.config.scales_decoder_outputs
  tiny_weights.assert_equal(read_all(opened), made)
  # transformers 4 knows it only as untied.
  values = json.loads((tmp_path / "again" / "config.json").read_text())
  assert values["tie_word_embeddings"] is False
  with pytest.raises(UserError, match="cannot become a T5X checkpoint"):
    run(tmp_path / "own", tmp_path / "t5x", "--to", "t5x")
  assert not (tmp_path / "t5x").exists()


@pytest.mark.parametrize("to", ["hf", "t5x"])
def test_bfloat16(tmp_path, to):
  write_hf(tmp_path / "hf", tensors(FLAN))
  run(tmp_path / "hf", tmp_path / "half", "--to", to, "--dtype", "bfloat16")
  found = read_all(pretrained.open_weights(str(tmp_path / "half")))
  wanted = {k: v.astype(ml_dtypes.bfloat16) for k, v in tensors(FLAN).items()}
  tiny_weights.assert_equal(found, wanted)
  # And from there float32 is exact.
  run(tmp_path / "half", tmp_path / "whole", "--to", "t5tune")
  found = read_all(pretrained.open_weights(str(tmp_path / "whole")))
  wanted = {k: v.astype(np.float32) for k, v in wanted.items()}
  tiny_weights.assert_equal(found, wanted)


def data_size(file) -> int:
  """Returns the bytes of a safetensors file without its header."""
  data = file.read_bytes()
  return len(data) - 8 - int.from_bytes(data[:8], "little")


def test_the_files_of_an_export(tmp_path, vocabulary):
  write_hf(tmp_path / "hf", tensors(FLAN))
  more = ["--max_shard_size", "20KB", "--vocabulary", vocabulary]
  run(tmp_path / "hf", tmp_path / "out", "--to", "hf", *more)
  out = tmp_path / "out"
  shards = sorted(p.name for p in out.glob("model-*.safetensors"))
  assert len(shards) > 2 and shards[0] == f"model-00001-of-{len(shards):05}.safetensors"
  assert all(data_size(out / s) <= 20_000 for s in shards)
  index = json.loads((out / "model.safetensors.index.json").read_text())
  assert set(index["weight_map"].values()) == set(shards)
  size = sum(v.nbytes for v in tensors(FLAN).values())
  assert index["metadata"]["total_size"] == size
  values = json.loads((out / "config.json").read_text())
  expected = tiny_weights.CONFIG_JSON
  assert {k: values[k] for k in expected} == expected
  assert values["scale_decoder_outputs"] is False
  generation = json.loads((out / "generation_config.json").read_text())
  assert generation["decoder_start_token_id"] == 0
  assert (out / "spiece.model").read_bytes() == vocabulary.read_bytes()
  tokenizer = json.loads((out / "tokenizer_config.json").read_text())
  assert tokenizer["tokenizer_class"] == "T5Tokenizer"
  card = (out / "README.md").read_text()
  assert "between the logits of the source and of this checkpoint is 0," in card
  assert "library_name: transformers" in card


def test_the_card_of_a_run(finished, tmp_path):
  run(finished, tmp_path / "out", "--to", "hf")
  card = (tmp_path / "out" / "README.md").read_text()
  saved = json.loads((finished / "scores" / "test-6.json").read_text())
  assert saved["rouge"] in card
  for task in saved["tasks"]:
    for metric, value in task["scores"].items():
      assert f"| {task['task']} | {task['split']} | {task['rows']} | {metric} |" in card
      assert f"| {value:.2f} |" in card
  assert (finished / "config.gin").read_text().strip() in card
  assert "(step 6)" in card
  assert "| tiny_sums | 300 | 25.0% | " in card
  first = sorted(int(p.name) for p in (finished / "checkpoints").glob("[0-9]*"))[0]
  run(finished / "checkpoints" / str(first), tmp_path / "early", "--to", "hf")
  assert "not scored" in (tmp_path / "early" / "README.md").read_text()


def refused(tmp_path, *arguments) -> str:
  before = sorted(os.listdir(tmp_path))
  with pytest.raises(UserError) as e:
    convert.main([str(a) for a in arguments])
  assert sorted(os.listdir(tmp_path)) == before
  return str(e.value)


def test_nothing_is_left_of_what_fails(tmp_path, monkeypatch):
  made = tensors(FLAN)
  made["decoder/decoder_norm/scale"][2] = np.inf
  write_hf(tmp_path / "bad", made)
  write_hf(tmp_path / "good", tensors(FLAN))
  for to in ("hf", "t5x", "t5tune"):
    said = refused(tmp_path, tmp_path / "bad", tmp_path / "out", "--to", to)
    assert "decoder/decoder_norm/scale holds 1 values that are NaN or infinite" in said
  said = refused(tmp_path, tmp_path / "good", tmp_path / "bad", "--to", "hf")
  assert "bad is there already" in said
  said = refused(
    tmp_path, tmp_path / "good", tmp_path / "bad/config.json/x", "--to", "hf"
  )
  assert "cannot write" in said
  said = refused(tmp_path, "scratch", tmp_path / "out", "--to", "hf")
  assert "holds no weights" in said
  said = refused(tmp_path, tmp_path / "none/here/x", tmp_path / "out", "--to", "hf")
  assert "SRC = " in said and "no such directory" in said
  flags = [tmp_path / "good", tmp_path / "out", "--to", "hf"]
  assert "such as 2GB" in refused(tmp_path, *flags, "--max_shard_size", "lots")
  assert "no such file" in refused(tmp_path, *flags, "--vocabulary", "none.model")
  usage = os.statvfs(tmp_path)
  monkeypatch.setattr("shutil.disk_usage", lambda path: type("U", (), {"free": 1000}))
  assert usage and "GB free, the result takes" in refused(tmp_path, *flags)


@pytest.mark.parametrize("to", ["hf", "t5x", "t5tune"])
def test_a_disk_that_is_full_leaves_nothing(tmp_path, to):
  write_hf(tmp_path / "good", tensors(FLAN))
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
  try:
    said = refused(tmp_path, tmp_path / "good", tmp_path / "out", "--to", to)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert "cannot write" in said and "File too large" in said


def test_a_vocabulary_that_is_not_the_weights(tmp_path):
  write_hf(tmp_path / "good", tensors(FLAN))
  (tmp_path / "notes.txt").write_text("no model")
  flags = [tmp_path / "good", tmp_path / "out", "--to", "hf", "--vocabulary"]
  said = refused(tmp_path, *flags, tmp_path / "notes.txt")
  assert "is not a usable SentencePiece model" in said
  mini = vocabularies.resolve("mini.model")
  said = refused(tmp_path, *flags, mini)
  assert "8100 ids" in said and "264 rows" in said


def test_an_untied_scaled_model_is_not_exported(tmp_path):
  # transformers 4 would not scale its logits.
  write_hf(tmp_path / "hf", tensors(FLAN), tie_word_embeddings=True)
  run(tmp_path / "hf", tmp_path / "own", "--to", "t5tune")
  said = refused(tmp_path, tmp_path / "own", tmp_path / "out", "--to", "hf")
  assert "transformers 4 cannot load right" in said


def test_a_terminated_conversion_leaves_nothing(tmp_path, monkeypatch):
  write_hf(tmp_path / "good", tensors(FLAN))
  stop = lambda *_: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
  monkeypatch.setattr(hf_export, "write_tokenizer", stop)
  monkeypatch.setattr(hf_export, "_shards", stop)
  with pytest.raises(KeyboardInterrupt):
    convert.main([str(tmp_path / "good"), str(tmp_path / "out"), "--to", "hf"])
  assert os.listdir(tmp_path) == ["good"]


def test_an_export_that_reads_back_otherwise_is_not_kept(tmp_path, monkeypatch):
  write_hf(tmp_path / "good", tensors(FLAN))
  written = hf_export._write_safetensors

  def flip(path, *rest):
    yield from written(path, *rest)
    data = bytearray(path.read_bytes())
    data[-1] ^= 2  # a high bit of the last value's exponent
    path.write_bytes(data)

  monkeypatch.setattr(hf_export, "_write_safetensors", flip)
  said = refused(tmp_path, tmp_path / "good", tmp_path / "out", "--to", "hf")
  assert "read back, its logits differ" in said or "NaN" in said

"""Tests of what is said about initial weights and their vocabulary."""

import pytest

from t5tune import errors
from t5tune.training import pretrained


def test_weights_that_cannot_be_read_are_named_with_the_way_out():
  pretrained.check("scratch")
  with pytest.raises(errors.UserError, match="INIT = 'google/flan-t5-small'.*INIT=scr"):
    pretrained.check("google/flan-t5-small")


def test_the_vocabulary_beside_the_weights(tmp_path):
  (tmp_path / "spiece.model").write_bytes(b"model")
  assert pretrained.vocabulary_path(str(tmp_path)) == tmp_path / "spiece.model"


def test_no_vocabulary_names_the_binding_and_the_ways_out(tmp_path):
  for init in ("scratch", str(tmp_path)):
    with pytest.raises(errors.UserError) as e:
      pretrained.vocabulary_path(init)
    message = str(e.value)
    assert "VOCABULARY is not set" in message and f"INIT = {init!r}" in message
    assert "--gin.VOCABULARY=" in message

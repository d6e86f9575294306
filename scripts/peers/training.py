"""Training steps of both sides, on examples of the same lengths."""

import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_FIRST_ID = 3  # after padding, end of sequence and the unknown
_IGNORED = -100  # a target that Hugging Face leaves out of the loss


class Ours:
  """t5tune's updates; `about` holds the examples, as lengths of input and target."""

  def __init__(
    self,
    gin_files: Sequence[str],
    overrides: Mapping[str, str],
    stores: tuple[pathlib.Path | None, pathlib.Path] | None,
  ):
    from t5tune import accelerators, bench, command_line

    # The other side is on the same card, and keeps its memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.45")
    accelerators.set_defaults(command_line.default_store_dir())  # as `train` does
    self._scratch = tempfile.TemporaryDirectory()
    folder = pathlib.Path(self._scratch.name)
    subject, _ = bench.subject_of(gin_files, list(overrides.items()), stores, folder)
    self.about = [_examples(batch) for batch in subject.batches]
    self._step = subject.train()

  def __call__(self) -> None:
    import jax

    jax.block_until_ready(self._step.work())


def _examples(batch: Mapping[str, np.ndarray]) -> list[tuple[int, int]]:
  """Returns the lengths of each example of a batch, padding not counted."""
  found = []
  sides = batch["encoder_segment_ids"], batch["decoder_segment_ids"]
  for row in zip(*sides, strict=True):
    lengths = [np.bincount(ids, minlength=ids.max() + 1)[1:].tolist() for ids in row]
    found += [pair for pair in zip(*lengths, strict=True) if pair[0]]
  return found


def grouped_by_length(
  examples: Sequence[tuple[int, int]], count: int
) -> list[list[tuple[int, int]]]:
  """Returns examples in so many batches, each of examples alike in length."""
  order = sorted(examples, reverse=True)
  return [part.tolist() for part in np.array_split(np.array(order), count)]


class HuggingFace:
  """transformers' T5 in PyTorch, each batch padded to its longest example."""

  def __init__(
    self,
    shape: Mapping[str, Any],
    batches: Sequence[Sequence[tuple[int, int]]],
    optimizer: str,
    bfloat16: bool,
    lora_rank: int | None = None,
  ):
    """Makes a model of random weights.

    Args:
      shape: settings of `transformers.T5Config`.
      batches: examples, as lengths of input and target.
      optimizer: 'adamw', torch's, or 'adafactor', transformers'.
      bfloat16: whether the forward pass runs under autocast.
      lora_rank: to train PEFT's factors of queries and values alone.
    """
    import torch
    import transformers

    self._torch, self._bfloat16 = torch, bfloat16
    self._device = "cuda" if torch.cuda.is_available() else "cpu"
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**shape))
    with torch.no_grad():
      # As T5X draws it, and we do. Drawn at 1 it gives logits so far apart that
      # probabilities underflow, and CPUs are slow at such numbers; trained ones are not so.
      model.lm_head.weight *= shape["d_model"] ** -0.5
    if lora_rank is not None:
      import peft

      factors = peft.LoraConfig(
        r=lora_rank, lora_alpha=lora_rank, target_modules=["q", "v"], lora_dropout=0.0
      )
      model = peft.get_peft_model(model, factors)
    self._model = model.train().to(self._device)
    params = [p for p in model.parameters() if p.requires_grad]
    if optimizer == "adamw":
      self._optimizer = torch.optim.AdamW(params, lr=1e-4)
    else:
      self._optimizer = transformers.Adafactor(
        params, lr=1e-3, relative_step=False, scale_parameter=True
      )
    rng = np.random.default_rng(0)
    self._batches = [self._padded(rng, lengths) for lengths in batches]

  def _padded(self, rng, lengths: Sequence[tuple[int, int]]) -> dict[str, Any]:
    longest = np.max(lengths, axis=0)
    inputs = np.zeros((len(lengths), longest[0]), np.int64)
    labels = np.full((len(lengths), longest[1]), _IGNORED, np.int64)
    for row, (a, b) in enumerate(lengths):
      inputs[row, :a] = rng.integers(_FIRST_ID, 32_000, a)
      labels[row, :b] = rng.integers(_FIRST_ID, 32_000, b)
    batch = {"input_ids": inputs, "attention_mask": inputs > 0, "labels": labels}
    tensors = {k: self._torch.tensor(v.astype(np.int64)) for k, v in batch.items()}
    return {k: v.to(self._device) for k, v in tensors.items()}

  def __call__(self) -> None:
    for batch in self._batches:
      with self._torch.autocast(self._device, self._torch.bfloat16, self._bfloat16):
        loss = self._model(**batch).loss
      loss.backward()
      self._optimizer.step()
      self._optimizer.zero_grad()
    if self._device == "cuda":
      self._torch.cuda.synchronize()


def shape_for_hugging_face(gin_files: Sequence[str]) -> dict[str, Any]:
  """Returns settings of `transformers.T5Config` for a model of ours."""
  from t5tune import config
  from t5tune.models import t5

  ours = config.load(list(gin_files), []).build(t5.T5Config)
  if tuple(ours.mlp_activations) != ("gelu", "linear"):
    raise SystemExit("Hugging Face's side takes models of T5 1.1's shape.")
  return {
    "vocab_size": t5.pad_vocab_size(ours, 32_100).vocab_size,
    "d_model": ours.emb_dim,
    "d_kv": ours.head_dim,
    "d_ff": ours.mlp_dim,
    "num_heads": ours.num_heads,
    "num_layers": ours.num_encoder_layers,
    "num_decoder_layers": ours.num_decoder_layers,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "dropout_rate": 0.1,
    "decoder_start_token_id": 0,
  }

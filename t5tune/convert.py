"""Converts weights: `python -m t5tune.convert SRC DST --to hf`."""

import os
import pathlib
import signal
from collections.abc import Sequence

from t5tune import command_line, errors

EXAMPLES = (
  "python -m t5tune.convert WORKDIR my-flan-t5 --to hf --dtype bfloat16",
  "python -m t5tune.convert google/flan-t5-base flan_t5_base_t5x --to t5x",
  "python -m t5tune.convert gs://BUCKET/checkpoint_1184000 flan --to t5tune"
  " --vocabulary spiece.model",
  "python -m t5tune.convert LORA_WORKDIR my-adapter --to peft",
)


def main(arguments: Sequence[str]) -> int:
  """Converts what the flags name; returns the exit status."""
  parser = command_line.parser(
    "convert",
    "Converts weights between Hugging Face, T5X and t5tune. SRC is a Hugging Face id or"
    " directory, a T5X checkpoint, a work directory or one of its checkpoints/STEP."
    " Optimiser state is left behind. Of a run with LoRA, merged weights are written, or"
    " --to peft its factors.",
    EXAMPLES,
    flags=(),
  )
  parser.add_argument("source", metavar="SRC", help="the weights to read")
  parser.add_argument("destination", metavar="DST", help="a directory to make")
  parser.add_argument("--to", required=True, choices=("hf", "t5x", "t5tune", "peft"))
  parser.add_argument(
    "--dtype",
    choices=("float32", "bfloat16"),
    default="float32",
    help="dtype of the tensors written; t5tune's own are float32 (default: float32)",
  )
  parser.add_argument(
    "--max_shard_size",
    default="5GB",
    metavar="SIZE",
    help="with --to hf: largest file of weights (default: 5GB)",
  )
  parser.add_argument(
    "--vocabulary",
    metavar="FILE",
    help="SentencePiece model, for a source that has none beside it",
  )
  parser.add_argument(
    "--base",
    metavar="SRC",
    help="the weights that a run with LoRA was trained on, where they are no longer where"
    " its INIT says",
  )
  flags = parser.parse_args(arguments)
  if flags.to == "t5tune" and flags.dtype != "float32":
    raise errors.UserError("--dtype=bfloat16: t5tune keeps parameters in float32.")

  os.environ.setdefault("JAX_PLATFORMS", "cpu")  # an accelerator is not needed
  from t5tune.data import vocabularies
  from t5tune.weights import conversion, hf_export

  # As Ctrl-C: what was written aside is removed.
  before = signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    conversion.convert(
      flags.source,
      pathlib.Path(flags.destination),
      flags.to,
      flags.dtype,
      hf_export.parse_size(flags.max_shard_size),
      flags.vocabulary,
      lambda path: vocabularies.Tokenizer(path).size,
      flags.base,
    )
  finally:
    signal.signal(signal.SIGTERM, before)
  return 0


if __name__ == "__main__":
  command_line.main(main)

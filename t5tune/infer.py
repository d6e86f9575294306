"""Answers prompts: `python -m t5tune.infer --checkpoint=DIR --input=FILE`."""

import hashlib
import json
import pathlib
import sys
from collections.abc import Sequence

from t5tune import command_line, errors

EXAMPLES = (
  "python -m t5tune.infer --checkpoint=WORKDIR --task=dialogsum --input=chats.jsonl"
  " --output=summaries.jsonl",
  "python -m t5tune.infer --checkpoint=google/flan-t5-small --input=prompts.txt"
  " --output=- --max_length=64 --num_beams=4 --n_best=2",
  "python -m t5tune.infer --checkpoint=WORKDIR/checkpoints/3000 --interactive",
)
# What is written of an answer; a row's own fields of these names are of an earlier one.
_ANSWER = ("prediction", "cut", "score", "candidates", "prompt_cut")
_CHUNK = 8  # batches that are grouped by length, and written together
# What `generation.decode_config` takes, with its default where this is not None.
_DECODING = {
  "max_length": (int, "most tokens of an answer (default: what it was trained with)"),
  "num_beams": (int, "beams of a search (default: 1, greedy)"),
  "length_penalty": (float, "of a search; more for longer answers (default: 0.6)"),
  "beam_rules": (str, "of a search: t5x or hf (default: t5x)"),
  "temperature": (float, "draw tokens at this temperature"),
  "top_k": (int, "draw tokens among the K likeliest"),
  "top_p": (float, "draw tokens among the likeliest of together this probability"),
  "n_best": (int, "answers for each prompt (default: 1)"),
  "min_length": (int, "tokens before which an answer may not end"),
  "no_repeat_ngram": (int, "let no N tokens in a row come twice"),
}


def main(arguments: Sequence[str]) -> int:
  """Answers what the flags name; returns the exit status."""
  flags = _flags(arguments)

  from t5tune import accelerators

  accelerators.set_defaults(command_line.default_store_dir())  # before jax starts
  from t5tune import generation
  from t5tune.data import prompts
  from t5tune.evaluation import answer_file

  task = None
  if flags.task:
    task = prompts.TaskPrompt.of(flags.task, flags.task_modules.split(","))
  given = {name: getattr(flags, name) for name in _DECODING}
  given = {name: value for name, value in given.items() if value is not None}
  generation.decode_config(generation.MOST_TOKENS, **given)  # before much is read
  read = None
  if not flags.interactive:
    if flags.output != "-":
      answer_file.check_new(flags.output)
    read = prompts.read(flags.input, flags.format, flags.field, task)
  model = generation.load(
    flags.checkpoint,
    vocabulary=flags.vocabulary,
    dtype=flags.dtype,
    input_length=flags.input_length,
  )
  config = generation.decode_config(model.target_length, **given)
  if flags.interactive:
    _converse(model, config, task, flags)
  else:
    _answer_all(model, config, read, flags)
  return 0


def _flags(arguments: Sequence[str]):
  parser = command_line.parser(
    "infer",
    "Answers prompts with a trained model. Killed and started again with the same flags,"
    " it goes on after the last line it has written.",
    EXAMPLES,
    flags=(),
  )
  parser.add_argument(
    "--checkpoint",
    required=True,
    metavar="SRC",
    help="a work directory or one of its checkpoints/STEP, a Hugging Face id or"
    " directory, a T5X checkpoint",
  )
  parser.add_argument("--input", metavar="FILE", help="prompts; - for standard input")
  parser.add_argument("--output", metavar="FILE", help="answers; - for standard output")
  parser.add_argument(
    "--format",
    choices=("jsonl", "text"),
    help="of both files: rows of JSON Lines, or one prompt and one answer a line"
    " (default: jsonl where --input ends so)",
  )
  parser.add_argument(
    "--field", metavar="NAME", help="of rows: the one with the prompt (default: input)"
  )
  parser.add_argument(
    "--task",
    metavar="NAME",
    help="put rows into the first template of this task, or into TASK/TEMPLATE",
  )
  parser.add_argument(
    "--task_modules",
    default="t5tune.tasks.mixtures",
    metavar="MODULES",
    help="where --task is registered (default: %(default)s)",
  )
  parser.add_argument(
    "--interactive", action="store_true", help="answer what is typed, line by line"
  )
  for name, (kind, text) in _DECODING.items():
    parser.add_argument(
      f"--{name}", type=kind, metavar=kind.__name__.upper(), help=text
    )
  parser.add_argument(
    "--input_length",
    type=int,
    metavar="INT",
    help="most tokens of a prompt; a longer one is cut (default: what it was trained"
    " with, else 512)",
  )
  parser.add_argument("--seed", type=int, help="of what is drawn (default: 0)")
  parser.add_argument(
    "--batch_size", type=int, default=32, help="prompts at a time (default: 32)"
  )
  parser.add_argument("--vocabulary", metavar="FILE", help="a SentencePiece model")
  parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
  flags = parser.parse_args(arguments)
  if flags.interactive and (flags.input or flags.output):
    raise errors.UserError("--interactive reads and writes the terminal alone.")
  if not flags.interactive and not (flags.input and flags.output):
    raise errors.UserError("give --input and --output, or --interactive.")
  for name, least in {"batch_size": 1, "input_length": 2}.items():
    if getattr(flags, name) is not None and getattr(flags, name) < least:
      raise errors.UserError(
        f"--{name}={getattr(flags, name)}: it must be at least {least}."
      )
  if flags.seed is not None and not 0 <= flags.seed < 2**32:
    raise errors.UserError(f"--seed={flags.seed}: it must be from 0 to 2**32 - 1.")
  searches = [
    f for f in ("length_penalty", "beam_rules") if getattr(flags, f) is not None
  ]
  if searches and (flags.num_beams or 1) == 1:
    raise errors.UserError(f"--{searches[0]} goes with --num_beams of 2 or more.")
  draws = any(getattr(flags, f) is not None for f in ("temperature", "top_k", "top_p"))
  if flags.seed is not None and not draws:
    raise errors.UserError(
      "--seed goes with --temperature, --top_k or --top_p: without them nothing is drawn."
    )
  flags.seed = flags.seed or 0
  if flags.output and flags.output != "-":
    flags.output = pathlib.Path(flags.output).expanduser()
  if flags.format is None:
    named = (flags.input or "").endswith((".jsonl", ".jsonl.gz"))
    flags.format = "jsonl" if named else "text"
  if flags.field and (flags.task or flags.format == "text"):
    why = "--task says which fields" if flags.task else "lines of text have no fields"
    raise errors.UserError(f"--field={flags.field}: {why}; leave it away.")
  flags.field = flags.field or "input"
  return flags


def _answer_all(model, config, read, flags) -> None:
  """Answers all prompts, a chunk after the other."""
  from rich.console import Console

  out = None if flags.output == "-" else _answer_file(model, read, flags)
  first, total = out.done if out else 0, len(read.texts)
  told = Console(stderr=True, highlight=False)
  if first:
    told.print(f"Continuing after {first:,} of {total:,} answers")
  size, made = _CHUNK * flags.batch_size, []
  try:
    with _progress(told) as shown:
      bar = shown.add_task("answers", total=total, completed=first)
      for start in range(first, total, size):
        answers = model.answers(
          read.texts[start : start + size],
          config,
          seed=flags.seed,
          first_row=start,
          batch_size=flags.batch_size,
          escape=read.escape,
          progress=lambda done, start=start: shown.update(bar, completed=start + done),
        )
        rows = zip(read.rows[start:], answers, strict=False)
        lines = [_line(row, answer, flags) for row, answer in rows]
        if out:
          out.append(lines)
        else:
          print("\n".join(lines), flush=True)
        made += [(a.candidates[0].cut, a.prompt_cut > 0) for a in answers]
    if out:
      out.finish()
  finally:
    if out:
      out.close()
  limits = {
    f"prompts were cut at {model.input_length} tokens (--input_length)": (
      sum(prompt_cut for _, prompt_cut in made)
    ),
    f"answers met the limit of {config.max_length} tokens (--max_length)": (
      sum(cut for cut, _ in made)
    ),
  }
  for what, count in limits.items():
    if count:
      told.print(f"{count:,} of {len(made):,} {what}.")


def _answer_file(model, read, flags):
  """Opens the file to write, with all that decides its lines."""
  from t5tune.evaluation import answer_file

  rows = json.dumps([read.texts, read.rows])
  made_by = {name: getattr(flags, name) for name in (*_DECODING, "seed", "format")}
  made_by |= {
    "checkpoint": model.origin,
    "dtype": model.dtype,
    "vocabulary": model.tokenizer.sha256,
    "input_length": model.input_length,
    "input": hashlib.sha256(rows.encode()).hexdigest(),
  }
  return answer_file.AnswerFile(flags.output, made_by)


def _progress(console):
  from rich import progress

  return progress.Progress(
    progress.TextColumn("answers"),
    progress.BarColumn(bar_width=30),
    progress.MofNCompleteColumn(),
    progress.TimeRemainingColumn(),
    console=console,
  )


def _line(row: dict, answer, flags) -> str:
  best = answer.candidates[: flags.n_best or 1]
  if flags.format == "text":
    return "\t".join(" ".join(candidate.text.split("\n")) for candidate in best)
  kept = {name: value for name, value in row.items() if name not in _ANSWER}
  made = {**kept, "prediction": answer.text, "cut": best[0].cut}
  if best[0].score is not None:
    made["score"] = best[0].score
  if flags.n_best:
    made["candidates"] = [{"text": c.text, "score": c.score} for c in best]
  if answer.prompt_cut:
    made["prompt_cut"] = answer.prompt_cut
  return json.dumps(made, ensure_ascii=False)


def _converse(model, config, task, flags) -> None:
  """Answers what is typed until there is no more."""
  fields = task.template.fields("inputs") if task else [flags.field]
  if len(fields) > 1:
    raise errors.UserError(
      f"--task={flags.task} has several fields ({', '.join(fields)}): give it rows with"
      " --input."
    )
  number = 0
  while True:
    try:
      text = input("> " if sys.stdin.isatty() else "")
    except (EOFError, KeyboardInterrupt):
      print()
      return
    if not text.strip():
      continue
    if text.encode(errors="replace").decode() != text:
      print("(this is not UTF-8)")
      continue
    prompt = task.fill("prompt", {fields[0]: text}) if task else text
    escape = task.escape if task else False
    (answer,) = model.answers(
      [prompt], config, seed=flags.seed, first_row=number, batch_size=1, escape=escape
    )
    number += 1
    if answer.prompt_cut:
      print(f"(the prompt was cut by {answer.prompt_cut} tokens)")
    for candidate in answer.candidates[: flags.n_best or 1]:
      score = "" if candidate.score is None else f"  ({candidate.score:.2f})"
      print(f"{candidate.text}{score}", flush=True)


if __name__ == "__main__":
  command_line.main(main)

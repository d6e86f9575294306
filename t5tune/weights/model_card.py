"""The model card of an exported checkpoint: what it is, how it scored, what it proves."""

import json
import pathlib
from typing import Any

from t5tune.weights import weights

_CARD = """\
---
library_name: transformers
pipeline_tag: text2text-generation
tags:
- t5
- t5tune
{base}---

# {title}

A T5 encoder-decoder with {parameters:,} parameters, written by t5tune from
`{origin}` (step {step:,}).

```python
from transformers import AutoTokenizer, T5ForConditionalGeneration

tokenizer = AutoTokenizer.from_pretrained("{title}")
model = T5ForConditionalGeneration.from_pretrained("{title}")
inputs = tokenizer("Summarize a dialogue: ...", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=128)[0], skip_special_tokens=True))
```

## Verification

The files were read back after writing: on {rows} random inputs the largest difference
between the logits of the source and of this checkpoint is {difference:.3g}, at logits of
a scale of {scale:.3g} (float32, CPU; tensors written as {dtype}).
"""


def write(
  folder: pathlib.Path,
  title: str,
  source: weights.Weights,
  check: dict[str, Any],
  workdir: pathlib.Path | None,
) -> None:
  """Writes README.md beside the weights.

  Args:
    folder: the exported checkpoint.
    title: its name.
    source: the weights it was made from.
    check: `rows`, `difference` and `scale` of the verification, and `dtype`.
    workdir: the run that made the weights, with its config and scores, or None.
  """
  base = _base_model(workdir)
  text = _CARD.format(
    title=title,
    base=f"base_model: {base}\n" if base else "",
    parameters=sum(_size(shape) for shape in source.shapes.values()),
    origin=pathlib.Path(source.origin).name if workdir is None else workdir.name,
    step=source.step,
    **check,
  )
  if workdir is not None:
    text += _scores(workdir, source.step) + _data(workdir) + _training(workdir)
  (folder / "README.md").write_text(text, encoding="utf-8")


def _size(shape: tuple[int, ...]) -> int:
  size = 1
  for n in shape:
    size *= n
  return size


def _base_model(workdir: pathlib.Path | None) -> str | None:
  """Returns the Hugging Face id that a run started from, if it did."""
  config = workdir / "config.gin" if workdir else None
  if config is None or not config.is_file():
    return None
  for line in config.read_text(encoding="utf-8").splitlines():
    name, _, value = line.partition(" = ")
    init = value.strip().strip("'\"")
    if name == "INIT" and init.count("/") == 1 and init[0] not in "./~":
      return init
  return None


def _scores(workdir: pathlib.Path, step: int) -> str:
  file = workdir / "scores" / f"test-{step}.json"
  if not file.is_file():
    return "\n## Scores\n\nThis step was not scored on test rows.\n"
  saved = json.loads(file.read_text(encoding="utf-8"))
  lines = ["| task | split | rows | metric | score | best constant answer |"]
  lines.append("|---|---|---|---|---|---|")
  for task in saved["tasks"]:
    for metric, value in task["scores"].items():
      constant = (task["constant"] or {}).get(metric)
      shown = "–" if constant is None else f"{constant:.2f}"
      where = f"{task['task']} | {task['split']} | {task['rows']}"
      lines.append(f"| {where} | {metric} | {value:.2f} | {shown} |")
  return (
    "\n## Scores\n\n" + "\n".join(lines) + f"\n\nROUGE profile: `{saved['rouge']}`\n"
  )


def _data(workdir: pathlib.Path) -> str:
  file = workdir / "mixture.json"
  if not file.is_file():
    return ""
  saved = json.loads(file.read_text(encoding="utf-8"))
  lines = ["| task | training examples | rate | epochs |", "|---|---|---|---|"]
  for task in saved["tasks"]:
    name, examples = task["name"], f"{task['examples']:,}"
    lines.append(
      f"| {name} | {examples} | {task['share']:.1%} | {task['epochs']:.2f} |"
    )
  head = f"\n## Data\n\nMixture `{saved['mixture']}` in {saved['train_steps']:,} steps:"
  return head + "\n\n" + "\n".join(lines) + "\n"


def _training(workdir: pathlib.Path) -> str:
  config = workdir / "config.gin"
  if not config.is_file():
    return ""
  text = config.read_text(encoding="utf-8").rstrip()
  return f"\n## Training\n\nThe complete configuration:\n\n```gin\n{text}\n```\n"

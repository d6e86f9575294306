"""What the README shows of Python works as it stands."""

import json
import pathlib
import re

import tiny_checkpoint

from t5tune import prepare

ROOT = pathlib.Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def block(part: str) -> str:
  """Returns the README's one block of Python that contains a text."""
  (code,) = (b for b in _BLOCK.findall((ROOT / "README.md").read_text()) if part in b)
  return code


def test_the_readme_prompt_is_answered(tmp_path, monkeypatch):
  tiny_checkpoint.write(tmp_path / "WORKDIR")
  monkeypatch.chdir(tmp_path)
  *lines, last = block("t5tune.load").splitlines()
  names = {}
  exec("\n".join(lines), names)
  (answer,) = eval(last, names)
  assert isinstance(answer, str) and answer


def test_the_readme_task_works(tmp_path, monkeypatch, capsys):
  code = block("registration.add")
  (tmp_path / "my_tasks.py").write_text(code)
  folder = tmp_path / "data" / "support_chats"
  folder.mkdir(parents=True)
  for split, count in {"train": 20, "validation": 3}.items():
    rows = [
      {"chat": f"Ann: parcel {i}?\nBo: sent.", "summary": f"Bo sent parcel {i}."}
      for i in range(count)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"{split}.jsonl").write_text(lines)
  monkeypatch.chdir(tmp_path)

  status = prepare.main(
    [
      "--gin_file=multitask.gin",
      "--gin_file=models/t5_mini.gin",
      "--gin.INIT=scratch",
      "--gin.TASK_MODULES=my_tasks",
      "--gin.MIXTURE=support_chats",
      f"--data_dir={tmp_path / 'data'}",
      f"--store_dir={tmp_path / 'stores'}",
    ]
  )

  assert status == 0
  assert "support_chats: 4 pass(es), splits validation" in capsys.readouterr().out
  stores = sorted((tmp_path / "stores" / "stores" / "support_chats").iterdir())
  rows = next(s for s in stores if s.name.startswith("validation")) / "rows.jsonl"
  first = json.loads(rows.read_text().splitlines()[0])
  assert (
    first["inputs_pretokenized"] == "Summarize this chat: Ann: parcel 0?\nBo: sent."
  )
  assert first["template"] == "summarize"

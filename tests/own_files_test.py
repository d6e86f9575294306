"""The command for a user's own file, as docs/data.md shows it, typed into a shell."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
# A model that needs no download.
SMALL = "--gin_file=models/t5_mini.gin --gin.INIT=scratch --store_dir=stores"


@pytest.fixture
def shell(tmp_path):
  """Runs the documented command, preparing where it trains, in a folder of its own."""
  text = (ROOT / "docs" / "data.md").read_text()
  (command,) = re.findall(
    r"    (python -m t5tune.train --gin_file=jsonl(?:.*\\\n)*.*)", text
  )
  command = command.replace("t5tune.train", "t5tune.prepare").replace(
    "--workdir=DIR", SMALL
  )
  command = command.replace("python", sys.executable)

  def run(more=""):
    return subprocess.run(
      ["bash", "-c", f"{command} {more}"],
      cwd=tmp_path,
      env=os.environ | {"PYTHONPATH": str(ROOT)},
      capture_output=True,
      text=True,
    )

  return run


def test_the_documented_command_works_as_it_is_typed(shell, tmp_path):
  chats = [
    {"dialogue": f"Ann: parcel {i}?\nBo: sent.", "summary": f"Bo sent parcel {i}."}
    for i in range(60)
  ]
  lines = [*map(json.dumps, chats), '{"dialogue": "Ann: no summary."}', "not JSON"]
  (tmp_path / "chats.jsonl").write_text("\n".join(lines))

  done = shell()
  assert done.returncode == 2
  assert done.stderr.strip().startswith(
    "error: chats.jsonl:61: field 'summary' is missing"
  )
  assert "Traceback" not in done.stderr

  done = shell("--gin.ON_BAD_ROW=skip --gin.VALIDATION_SHARE=0.2")
  assert done.returncode == 0, done.stderr
  stores = sorted((tmp_path / "stores" / "stores" / "my_data").iterdir())
  (held_out,) = [s for s in stores if s.name.startswith("validation")]
  rows = [json.loads(line) for line in (held_out / "rows.jsonl").open()]
  assert 4 < len(rows) < 30
  for row in rows:
    assert row["inputs_pretokenized"] == f"Summarize a dialogue:\n{row['dialogue']}"
    assert row["targets_pretokenized"] == row["summary"]
  trained = next(s for s in stores if s.name.startswith("train"))
  told = [json.loads((s / "manifest.json").read_text()) for s in (trained, held_out)]
  assert [manifest["rows"] for manifest in told] == [60 - len(rows), len(rows)]
  assert sum(manifest["skipped"] for manifest in told) == 2

"""`python -m t5tune.report`: of a run that was trained, and of a mistake."""

import pytest

from t5tune import report
from t5tune.errors import UserError


def test_a_finished_run(finished, tmp_path, capsys):
  page, markdown = tmp_path / "made" / "page.html", tmp_path / "made.md"
  flags = [str(finished), f"--html={page}", f"--markdown={markdown}"]
  capsys.readouterr()
  assert report.main(flags) == 0
  shown = capsys.readouterr().out
  assert f"page: {page}" in shown and "finished: " in shown
  made = page.read_text()
  assert "tiny_titles" in made and "</html>" in made
  assert "| tiny_titles |" in markdown.read_text()
  assert report.main([str(finished), f"--html={page}", "--markdown=-"]) == 0
  assert capsys.readouterr().out.rstrip() == markdown.read_text().rstrip()


def test_a_folder_that_is_no_run(tmp_path):
  with pytest.raises(UserError, match="is no work directory"):
    report.main([str(tmp_path)])
  assert not list(tmp_path.iterdir())

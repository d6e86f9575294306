"""The page of `inspect_tasks`: it says what the terminal says and needs nothing."""

import html.parser
import re

import pytest
from inspected import inspecting  # noqa: F401

from t5tune.errors import UserError


class _Page(html.parser.HTMLParser):
  """Checks that tags close in order; gathers what a page would fetch."""

  def __init__(self, text):
    super().__init__()
    self.open, self.fetched, self.seen, self.text = [], [], [], []
    self.feed(text)
    assert not self.open

  def handle_starttag(self, tag, attrs):
    self.seen.append(tag)
    self.fetched += [value for name, value in attrs if name in ("src", "href")]
    if tag not in ("meta", "br", "rect", "line"):
      self.open.append(tag)

  def handle_endtag(self, tag):
    if tag not in ("rect", "line"):
      assert self.open.pop() == tag

  def handle_data(self, data):
    self.text.append(data)


def test_the_page_says_the_same_and_needs_nothing(inspect, tmp_path):
  file = tmp_path / "new" / "page.html"
  lines = inspect("tiny_titles", "tiny_mixture", f"--html={file}")
  assert lines[-1] == f"page: {file}"
  assert [p.name for p in file.parent.iterdir()] == ["page.html"]
  source = file.read_text()
  page = _Page(source)
  assert page.fetched == [] and "@import" not in source and "url(" not in source
  assert page.seen.count("svg") == 6  # both sides of three splits
  said = " ".join("".join(page.text).split())
  # Bars of a chart are finer than those of a terminal.
  table = [line for line in lines if not re.search(r"\d to +\d", line)]
  for number in re.findall(r"\d+\.\d%", "\n".join(table)):
    assert number in said, number
  for words in ("Give this note a title: {note}", "Our lamp broke, day 0.", "packed"):
    assert words in said
  file.write_text("before")
  inspect(f"--html={file}")
  assert "tiny_mixture" in file.read_text()


def test_a_page_that_cannot_be_written(inspect, tmp_path):
  with pytest.raises(UserError, match="--html=.*cannot be written"):
    inspect("--html=tiny.gin/page.html")
  with pytest.raises(UserError, match="--html=.*cannot be written"):
    inspect(f"--html={tmp_path}")

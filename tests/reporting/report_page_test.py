"""The page and the Markdown: everything on them, escaped, and nothing from elsewhere."""

import html.parser
import re

import made_runs
import pytest

from t5tune.reporting import page, records


@pytest.fixture
def runs(tmp_path):
  paths = [made_runs.multitask(tmp_path / "all"), made_runs.domain(tmp_path / "chat")]
  return records.read(paths)


class Checker(html.parser.HTMLParser):
  """Collects the text, and checks that tags close in order and nothing is fetched."""

  VOID = {"meta", "input", "br", "link", "img", "option"}

  def __init__(self):
    super().__init__()
    self.open, self.text = [], []

  def handle_starttag(self, tag, attributes):
    for name, value in attributes:
      assert name not in ("src", "srcset") and not name.startswith("on")
      local = (value or "").startswith("#")
      assert name not in ("href", "xlink:href") or local, value
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    if tag not in self.VOID:
      assert self.open.pop() == tag

  def handle_data(self, data):
    self.text.append(data)


def test_the_page_is_whole_and_needs_nothing(runs):
  made = page.html(runs)
  checker = Checker()
  checker.feed(made)
  assert not checker.open
  text = " ".join(" ".join(checker.text).split())
  for wanted in (
    "chat: gained 17.2 on chat, lost 0.4 elsewhere (mean of 2 tasks)",
    "ROUGE profile rouge|stem=1",
    "Ana packs 3 boxes.",
    "MIXTURE = '<chat>'",
    "Loss on the validation split, in nats",
    "code input 5 <b>",
  ):
    assert wanted in text
  assert "<b>" not in made and "url(" not in made.split("<svg")[0]
  assert made.count("<svg") == 8  # four curves of each run
  assert '<td class="n up" style="--much: 55"' in made  # gained more than 20 points
  assert re.search(r"<mark>5.0 %</mark>", made)  # of code's answers met the limit
  assert page.html(runs) == made  # no draw, no date


def test_an_answer_is_escaped_where_it_is_marked():
  found = str(page._answer("<i>Ana</i> & Bo", ["Ana"]))
  assert found == "&lt;<mark>i&gt;</mark>Ana&lt;/<mark>i&gt; &amp; Bo</mark>"
  assert "(empty)" in str(page._answer("", ["Ana"]))


def test_markdown_holds_the_matrix_and_all_metrics(runs):
  lines = page.markdown(runs).splitlines()
  assert "| task | metric | all, step 0 | all, step 5 | chat, step 9 |" in lines
  chat = next(line for line in lines if line.startswith("| chat | rouge1 |"))
  assert re.fullmatch(
    r"\| chat \| rouge1 \| 10.00 \| 30.00 \(\+20.00 ± \d\.\d\d\)"
    r" \| 47.20 \(\+37.20 ± \d\.\d\d\) \|",
    chat,
  )
  assert "| chat | rouge1 | 4.00 | 30.00 | 47.20 |" in "\n".join(lines)
  assert "|  | loss |  | 2.00 | 2.00 | +0.00 |" in lines

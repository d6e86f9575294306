"""Pages: text from data stays text, what is unknown is marked, bars stand in scale."""

import numpy as np
import pytest

from t5tune.data.inspection import page, run_batches
from t5tune.data.inspection.lengths import Side

HOSTILE = "<script>alert(1)</script> & \u2047 end"


def batch(text):
  example = run_batches.RowExample("a_task", 0, 7, 3, 2, text, "fine")
  rows = ((example,), (example, example))
  return run_batches.RunBatch("mixed", 4, 9, (8, 4), rows, {})


def test_text_of_the_data_is_escaped_and_unknown_pieces_are_marked(tmp_path):
  page.write(tmp_path / "b.html", batch=batch(HOSTILE), row=None)
  source = (tmp_path / "b.html").read_text()
  assert "<script" not in source
  marked = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; <mark>\u2047</mark> end"
  assert source.count(marked) == 3
  page.write(tmp_path / "b.html", batch=batch(HOSTILE), row=0)
  assert (tmp_path / "b.html").read_text().count(marked) == 1


@pytest.mark.parametrize("limit, near", [(64, True), (512, False)])
def test_bars_stand_in_scale_and_the_limit_where_it_is(limit, near):
  lengths = np.repeat([5, 20, 60], [10, 20, 5])
  chart = page.chart(Side("inputs", lengths, limit, 0, 0, False))
  heights = [bar["height"] for bar in chart["bars"]]
  assert np.allclose(np.divide(heights, max(heights)), [0.5, 1, 0.25], atol=0.01)
  for bar in chart["bars"]:
    assert bar["y"] + bar["height"] == pytest.approx(chart["floor"])
    assert chart["left"] <= bar["x"] <= bar["x"] + bar["width"] <= chart["right"]
  xs = [bar["x"] for bar in chart["bars"]]
  # 5, 20 and 60 lie in bars of width 2 that begin behind 4, 18 and 58.
  assert (xs[1] - xs[0]) / (xs[2] - xs[0]) == pytest.approx(14 / 54, abs=0.01)
  assert (chart["limit"] == chart["right"]) if near else (chart["limit"] is None)

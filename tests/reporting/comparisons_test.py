"""Rows side by side: which are shown, in which order, and what is marked."""

import made_runs

from t5tune.reporting import comparisons, records


def test_rows_stand_beside_those_before_the_worst_first(tmp_path):
  (run,) = records.read([made_runs.multitask(tmp_path / "run")])
  by_task = {c.task: c for c in comparisons.of_run(run)}
  for task, metric in made_runs.TASKS.items():
    made = by_task[task]
    assert (made.metric, made.total, len(made.rows)) == (metric, 40, 40)
    gains = [row.gain for row in made.rows]
    assert gains == sorted(gains)
    row = made.rows[0]
    number = row.source.split()[2]
    assert row.humans == [f"Ana packs {number} boxes.", "She packs."]
    assert "dogs" in row.before and "cats" in row.after
    sign = -1 if "error" in metric else 1
    rows = [
      {r["input"]: r["scores"][metric] for r in run.predictions(task, step)}
      for step in (0, 5)
    ]
    assert row.gain == sign * (rows[1][row.source] - rows[0][row.source])


def test_of_many_rows_the_worst_and_a_spread_are_shown(tmp_path, monkeypatch):
  monkeypatch.setattr(comparisons, "MOST_ROWS", 25)
  (run,) = records.read([made_runs.multitask(tmp_path / "run")])
  made = comparisons.of_run(run)[0]
  assert (made.total, len(made.rows)) == (40, 25)
  assert len({row.source for row in made.rows}) == 25
  gains = [row.gain for row in made.rows]
  everything = sorted(
    a["scores"]["rouge1"] - b["scores"]["rouge1"]
    for a, b in zip(*(run.predictions("chat", s) for s in (5, 0)), strict=True)
  )
  assert gains[:20] == everything[:20] and gains[-1] == everything[-1]


def test_without_an_evaluation_before_there_is_only_after(tmp_path):
  path = made_runs.write(tmp_path / "run", {7: {"chat": 1.0}}, ["chat"])
  (made,) = comparisons.of_run(records.read([path])[0])
  assert all(row.before is None and row.gain is None for row in made.rows)


def test_words_that_no_human_wrote_are_marked():
  pieces = comparisons.marked("Ana sold 3 boxes, twice.", ["ana packs 3 boxes.", "She"])
  assert pieces == [
    ("Ana ", False),
    ("sold ", True),
    ("3 boxes, ", False),
    ("twice.", True),
  ]
  assert "".join(text for text, _ in pieces) == "Ana sold 3 boxes, twice."
  assert comparisons.marked("", ["a"]) == []

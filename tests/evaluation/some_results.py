"""Results of evaluations, made up, for tests of what is kept and shown of them."""

from t5tune.evaluation import evaluator

ODD = 'line\u2028end [bold]not markup[/bold]\x85 "quoted" 🙂'


def result(task="first", split="test", **changes) -> evaluator.TaskResult:
  rows = [
    {
      "inputs_pretokenized": f"{ODD} {i}",
      "targets_pretokenized": f"human {i}",
      "template": "plain",
      "number": i,
      "prediction": f"model {i}",
      "references": [f"human {i}", "other"],
      "scores": {"rougeL": 10.0 * i},
    }
    for i in range(5)
  ]
  values = {
    "task": task,
    "split": split,
    "scores": {"rougeL": 41.256, "exact": 3.0},
    "loss": 1.5,
    "shuffled_loss": 2.5,
    "unigram_loss": 6.0,
    "constant": {"rougeL": 12.0, "exact": 0.5},
    "constant_answer": "human",
    "shuffled": {"rougeL": 9.0, "exact": 0.25},
    "mean_length": 7.25,
    "decode_length": 32,
    "at_cap": 0.0,
    "rows": rows,
  }
  return evaluator.TaskResult(**{**values, **changes})

"""The demo's tasks as mixtures for `t5tune.study`: dialogues are learnt last."""

from t5tune.tasks import demo, mixtures  # noqa: F401  demo registers the tasks

mixtures.add_study(
  "demo_study", "demo_dialogue", ("demo_rating", "demo_code", "demo_entities")
)

"""t5tune: multitask fine-tuning of FLAN-T5 in JAX and Flax."""

__version__ = "0.1.0"


def load(path, **settings):
  """Loads a model to generate with; see `t5tune.generation.load`.

  model = t5tune.load("WORKDIR")
  model.generate(["Summarize a dialogue. ..."])
  """
  from t5tune import generation

  return generation.load(path, **settings)

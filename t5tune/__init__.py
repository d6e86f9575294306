"""t5tune: multitask fine-tuning of FLAN-T5 in JAX and Flax."""

__version__ = "0.1.0"

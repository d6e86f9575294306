"""Evaluation: metrics, the evaluator and its baselines."""

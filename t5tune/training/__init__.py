"""Training: losses, optimisers, the train step and checkpoints."""

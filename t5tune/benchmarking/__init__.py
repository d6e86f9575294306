"""What a machine makes of a run's work: times, tokens, operations, memory."""

"""Data: SeqIO defines tasks, a token store keeps them, Grain feeds the trainer."""

"""Weights from elsewhere and for elsewhere: Hugging Face, T5X and our own."""

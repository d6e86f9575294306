"""Models: the T5 architecture, its attention and its decoding."""

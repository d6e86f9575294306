"""The two sides of `bench_peers.py`: t5tune, and Hugging Face."""

"""Before a run: what it will need and how long it will take, on any machine."""

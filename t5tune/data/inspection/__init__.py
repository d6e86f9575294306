"""Inspection: what of the data there is to see, and how it is shown."""

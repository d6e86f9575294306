"""Reports: what a run learnt and what it forgot, as a page and as Markdown."""

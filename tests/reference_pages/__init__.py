"""What the reference pages are made of, read from the source: `python -m tests.reference_pages`."""

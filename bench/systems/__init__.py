"""Systems under test: one file per kind, each behind the `System` of `system.py`."""

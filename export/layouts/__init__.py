"""Networks of other projects, built from their arguments and filled from their state dicts."""

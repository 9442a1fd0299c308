"""Samplers: one algorithm per file, each a generator of steps."""

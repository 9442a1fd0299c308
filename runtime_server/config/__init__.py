"""Configuration: what a server is told at its start, as values, from a file and from flags.

Knows what may be set and what fits together; not what the settings do.
"""

"""Watching: what the server says of itself, in log lines, metrics and traces.

Knows that things happen and who is told; nothing of what makes them happen.
"""

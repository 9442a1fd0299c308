"""Operating: the operator's side, from start over reload and the admin port to the drain.

Knows the whole server; nothing below knows it.
"""

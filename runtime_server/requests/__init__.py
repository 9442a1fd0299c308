"""Requests: those inside and those just finished, what they have made, and who listens.

Knows callers and results; not how a picture is made, nor which bundle is the present one.
"""

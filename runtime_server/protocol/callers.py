"""Who calls, where nobody says so."""

ANONYMOUS = "anonymous"
"""The identity of callers who need not say who they are."""

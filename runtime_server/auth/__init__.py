"""Authentication of callers by tokens and certificates.

Knows callers and their proofs; not what they ask for.
"""

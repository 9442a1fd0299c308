"""Identity: who is let in, by tokens and certificates.

Knows callers and their proofs; not what they ask for.
"""

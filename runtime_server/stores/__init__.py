"""What is kept for later requests within a budget of bytes: an LRU cache, and contexts in one.

Knows sizes, owners and a passed-in clock; not who asks.
"""

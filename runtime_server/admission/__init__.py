"""Admission: what a caller who was let in may ask for, how much of it, and what it means.

Knows requests, limits and the bundle's manifest; neither engines nor sockets.
"""

"""Batching: which requests and rows are next, and how rows share runs of an engine.

Knows rows, steps and times; neither requests' contents nor who asked.
"""

"""Hosting: one bundle at work, with its components, their queues and their threads.

Knows requests that were admitted; neither the network nor whether anybody listens.
"""

"""The machine under a server: its memory and its addresses.

Knows the operating system; nothing of ours.
"""

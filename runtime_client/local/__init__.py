"""Stages on this machine, and a server of one's own."""

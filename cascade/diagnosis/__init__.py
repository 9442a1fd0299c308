"""Findings of `cascade doctor`: what is installed, what this machine can run, what is missing."""

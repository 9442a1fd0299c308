"""Subcommands of `cascade` that need no network."""

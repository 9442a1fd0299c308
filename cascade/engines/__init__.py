"""Engines: what runs an exported graph. One backend per file."""

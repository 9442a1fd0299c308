"""The bundle: its manifest, its files, its signature."""

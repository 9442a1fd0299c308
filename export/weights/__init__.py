"""How weights lie in files: storage types, rounding, grids, and reading them back."""

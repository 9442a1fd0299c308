"""Forms of a stored graph for other runtimes: browsers, and accelerators of phones."""

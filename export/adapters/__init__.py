"""Other people's cascades: one adapter per kind of source, one writer for all of them."""

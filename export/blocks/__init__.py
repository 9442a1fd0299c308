"""Weights of products in blocks of 4 or 8 bits: quantised, put into graphs, proven."""

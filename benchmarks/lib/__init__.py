"""What benchmarks share: records, plots, entries, simulations; no questions."""

"""What benchmarks share: records, plots, contestants, simulations; no questions."""

"""Which engine and precision run which component on this machine (autotuning)."""

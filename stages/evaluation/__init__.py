"""How good a trained stage is: metrics, probe, sheets."""

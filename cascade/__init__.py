"""The vocabulary of a split text-to-image cascade: schedules, samplers, stages, bundles."""

__version__ = "0.1.0"

"""What is known of the free axes of every graph."""

STRIDE = 32
"""Free heights and widths are multiples of this: the reach of four halvings and more."""

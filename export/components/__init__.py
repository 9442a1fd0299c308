"""From a described component to its part of a bundle: a module per family, and what they share."""

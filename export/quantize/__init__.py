"""Static int8 of an exported graph: where, with which ranges, at which cost; proven."""

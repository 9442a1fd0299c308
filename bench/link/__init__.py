"""A link shaped in user space: round trip, bandwidth each way, lost segments and stalls."""

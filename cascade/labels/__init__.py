"""The family of label encoders: the number of a class to a context."""

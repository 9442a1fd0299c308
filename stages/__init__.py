"""The networks of the reference cascade in PyTorch, their data and their training."""

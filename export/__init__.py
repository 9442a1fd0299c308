"""From trained PyTorch stages to a bundle: ONNX graphs, exact storage, proven parity."""

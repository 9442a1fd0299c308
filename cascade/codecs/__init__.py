"""Codecs: pictures, tensors, ONNX files and strict JSON to bytes and back."""

"""Components of a bundle as files of phone runtimes: ExecuTorch, LiteRT, Core ML, ONNX Runtime."""

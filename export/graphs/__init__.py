"""From PyTorch to ONNX, and rewrites of graphs that keep the function."""

"""PyTorch -> ONNX by either of PyTorch's exporters: `exporting` goes the road, `source` finds a model for it."""

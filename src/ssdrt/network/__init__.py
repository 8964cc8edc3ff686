"""Networks: an SsdModel as ONNX."""

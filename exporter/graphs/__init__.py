"""A torch model to ONNX graphs: traced, simplified, their large tables outside."""

"""The torch model against its graphs in ONNX Runtime."""
